# What a report carries inside: the chart library from the system, our style and our script.
find_file(TANDEM_CHART_LIBRARY NAMES chart.min.js chart.umd.js
          PATHS /usr/share/javascript/chart.js /usr/share/nodejs/chart.js/dist
          DOC "Chart.js 3 or later, as one file")
if(NOT TANDEM_CHART_LIBRARY)
  message(FATAL_ERROR "Chart.js not found: install the package libjs-chart.js "
                      "or set TANDEM_CHART_LIBRARY to its chart.min.js")
endif()

set(report_dir ${PROJECT_SOURCE_DIR}/src/tandem/report)
set(assets ${PROJECT_BINARY_DIR}/report/assets.cc)
add_custom_command(
  OUTPUT ${assets}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${assets} -DHEADER=tandem/report/assets.h
          "-DFILES=chart_library=${TANDEM_CHART_LIBRARY},page_style=${report_dir}/page.css,page_script=${report_dir}/page.js"
          -P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  DEPENDS ${TANDEM_CHART_LIBRARY} ${report_dir}/page.css ${report_dir}/page.js
          ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  VERBATIM)
target_sources(tandem_report PRIVATE ${assets})
