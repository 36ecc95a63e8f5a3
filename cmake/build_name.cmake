# What a program calls itself to the others of its run: its version and a hash of its sources.
# Included by the project, it adds the command that writes build_name.cc into the base layer; run as
# a script (-DSOURCES=... -DVERSION=... -DOUT=...), it writes that.
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB_RECURSE files ${SOURCES}/*.cc ${SOURCES}/*.h)
  set(all "")
  foreach(file ${files})
    file(SHA256 ${file} hash)
    string(APPEND all ${hash})
  endforeach()
  string(SHA256 hash "${all}")
  string(SUBSTRING ${hash} 0 12 hash)
  file(WRITE ${OUT} "#include \"tandem/base/build_name.h\"\nstd::string_view tandem::build_name() { return \"tandem ${VERSION} (${hash})\"; }\n")
  return()
endif()

set(build_name ${PROJECT_BINARY_DIR}/build_name.cc)
file(GLOB_RECURSE build_name_sources CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/src/*.cc ${PROJECT_SOURCE_DIR}/src/*.h)
add_custom_command(OUTPUT ${build_name}
  COMMAND ${CMAKE_COMMAND} -DSOURCES=${PROJECT_SOURCE_DIR}/src -DVERSION=${PROJECT_VERSION}
          -DOUT=${build_name} -P ${CMAKE_CURRENT_LIST_FILE}
  DEPENDS ${build_name_sources} ${CMAKE_CURRENT_LIST_FILE}
  COMMENT "Naming the build" VERBATIM)
target_sources(tandem_base PRIVATE ${build_name})
