# make install and find_package(tandem): the program, one static library a layer with its headers,
# and targets tandem::<layer>, with tandem::tandem for all of them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(tandem_layers GLOBAL PROPERTY TANDEM_LAYERS)
add_library(tandem_all INTERFACE)
add_library(tandem::tandem ALIAS tandem_all)
set_target_properties(tandem_all PROPERTIES EXPORT_NAME tandem)
target_link_libraries(tandem_all INTERFACE ${tandem_layers})
foreach(layer ${tandem_layers})
  target_compile_features(${layer} INTERFACE cxx_std_20)
endforeach()

install(TARGETS tandem RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${tandem_layers} tandem_all EXPORT tandem-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/tandem DESTINATION include FILES_MATCHING PATTERN "*.h")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
install(EXPORT tandem-targets NAMESPACE tandem:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tandem-config.cmake.in
  ${PROJECT_BINARY_DIR}/tandem-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tandem-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tandem-config.cmake
  ${PROJECT_BINARY_DIR}/tandem-config-version.cmake DESTINATION ${package_dir})
