# A layer is a folder of src/tandem and a static library. Its headers are reached through a folder
# of its own that holds one link, so that a target sees exactly the layers it names: including a
# layer that is not named does not compile.
set(TANDEM_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
    -Wno-missing-field-initializers
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>) # GCC 12 sees overlaps in std::string (PR105651)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU) # clang, used for fuzzing, has opinions of its own
  list(APPEND TANDEM_WARNINGS -Werror)
endif()

function(tandem_flags target)
  target_compile_options(${target} PRIVATE ${TANDEM_WARNINGS})
  if(TANDEM_SANITIZE)
    # Instrumented code makes GCC warn of variables that are initialised after all: the plain build,
    # which compiles the same files, is where warnings are errors. -O1 compiles in half the time, and
    # a third is spared without the checks whose findings the address sanitizer has too. Of sources
    # compiled together (below) it warns as if they were headers of one another.
    target_compile_options(${target} PRIVATE -fsanitize=${TANDEM_SANITIZE} -fno-sanitize=null,object-size,vptr
                                             -fno-omit-frame-pointer -g1
                                             -O1 -foptimize-sibling-calls -Wno-error -Wno-maybe-uninitialized
                                             -Wno-shadow -Wno-subobject-linkage)
    target_compile_definitions(${target} PRIVATE TANDEM_POISON)
    target_link_options(${target} PUBLIC -fsanitize=${TANDEM_SANITIZE})
    # Sources are compiled a dozen at a time, their headers once: no two of a folder may give one name
    # to different things. (CMakeLists.txt makes an exception of the kernels.)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 12)
  endif()
endfunction()

function(tandem_layer layer)
  cmake_parse_arguments(ARG "" "" "USES;LIBRARIES" ${ARGN})
  set(sources_dir ${PROJECT_SOURCE_DIR}/src/tandem/${layer})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${sources_dir}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/cli/main.cc$")
  set(headers ${PROJECT_BINARY_DIR}/layers/${layer})
  file(MAKE_DIRECTORY ${headers}/tandem)
  file(CREATE_LINK ${sources_dir} ${headers}/tandem/${layer} SYMBOLIC)

  if(NOT sources) # a layer of headers alone still needs something to compile
    file(WRITE ${PROJECT_BINARY_DIR}/layers/${layer}/empty.cc "")
    set(sources ${PROJECT_BINARY_DIR}/layers/${layer}/empty.cc)
  endif()
  add_library(tandem_${layer} STATIC ${sources})
  add_library(tandem::${layer} ALIAS tandem_${layer})
  target_include_directories(tandem_${layer} PUBLIC
    $<BUILD_INTERFACE:${headers}> $<INSTALL_INTERFACE:include>)
  list(TRANSFORM ARG_USES PREPEND tandem_ OUTPUT_VARIABLE uses)
  target_link_libraries(tandem_${layer} PUBLIC ${uses} ${ARG_LIBRARIES})
  set_target_properties(tandem_${layer} PROPERTIES EXPORT_NAME ${layer})
  tandem_flags(tandem_${layer})
  set_property(GLOBAL APPEND PROPERTY TANDEM_LAYERS tandem_${layer})
endfunction()
