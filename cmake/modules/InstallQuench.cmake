# `cmake --install`: the tools, and, as the component "development", the CMake package: headers (also the generated
# ones), static libraries, QuenchConfig.cmake.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The libraries that need neither ONNX's nor a third one.
set(QUENCH_EXPORTED_LIBS "")
foreach(lib QuenchSupport QuenchQuantization QuenchDialect QuenchQKDialect QuenchQKToGeneric QuenchQKToX86
            QuenchAnalysis QuenchInsertMaps QuenchRecipe QuenchTokenizer QuenchRuntimeObjects QuenchCompiledModel)
  if(TARGET ${lib})
    list(APPEND QUENCH_EXPORTED_LIBS ${lib})
  endif()
endforeach()
install(TARGETS ${QUENCH_EXPORTED_LIBS} EXPORT QuenchTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Quench)
install(EXPORT QuenchTargets NAMESPACE Quench:: DESTINATION ${package} COMPONENT development)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/QuenchConfig.cmake.in ${PROJECT_BINARY_DIR}/QuenchConfig.cmake
  INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_BINDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/QuenchConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/QuenchConfig.cmake ${PROJECT_BINARY_DIR}/QuenchConfigVersion.cmake
  DESTINATION ${package} COMPONENT development)

# Headers: what people include, what they include in turn, and the .td files for dialects that build on these.
foreach(root ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  install(DIRECTORY ${root}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
    FILES_MATCHING PATTERN "*.h" PATTERN "*.inc" PATTERN "*.td" PATTERN "CMakeFiles" EXCLUDE)
endforeach()

foreach(tool quench-opt quench-translate quench-lsp-server)
  if(TARGET ${tool})
    install(TARGETS ${tool} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  endif()
endforeach()
