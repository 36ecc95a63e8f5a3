# The server's status page, one file that fetches nothing from elsewhere.
set(page ${PROJECT_SOURCE_DIR}/src/tandem/serve/page.html)
set(page_source ${PROJECT_BINARY_DIR}/serve/page.cc)
add_custom_command(
  OUTPUT ${page_source}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${page_source} -DHEADER=tandem/serve/page.h
          -DFILES=status_page=${page} -P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  DEPENDS ${page} ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  VERBATIM)
target_sources(tandem_serve PRIVATE ${page_source})
