# ONNX's C++ library (schemas, checker, shape inference), built from the source distribution of the
# `onnx` package on PyPI. utils/setup downloads and unpacks it; QUENCH_ONNX_SOURCE names the folder.
set(QUENCH_ONNX_SOURCE "${PROJECT_SOURCE_DIR}/build/third_party/onnx" CACHE PATH
    "Unpacked source distribution of onnx 1.23.2")
if(NOT EXISTS ${QUENCH_ONNX_SOURCE}/CMakeLists.txt)
  message(FATAL_ERROR "ONNX's sources are not in ${QUENCH_ONNX_SOURCE}: run utils/setup first, "
                      "or set QUENCH_ONNX_SOURCE to an unpacked onnx 1.23.2 source distribution")
endif()
block(SCOPE_FOR VARIABLES)
  set(ONNX_BUILD_TESTS OFF)
  set(ONNX_BUILD_PYTHON OFF)
  set(ONNX_USE_PROTOBUF_SHARED_LIBS ON)
  set(ONNX_USE_LITE_PROTO OFF)
  set(ONNX_DISABLE_EXCEPTIONS OFF)
  set(ONNX_WERROR OFF)
  set(ONNX_ML ON)
  set(BUILD_SHARED_LIBS OFF)
  set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} -w -fexceptions")
  # The library throws; its messages and warnings are not ours to show.
  get_directory_property(quench_compile_options COMPILE_OPTIONS)
  set_directory_properties(PROPERTIES COMPILE_OPTIONS "")
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
  add_subdirectory(${QUENCH_ONNX_SOURCE} ${CMAKE_BINARY_DIR}/third_party/onnx-build EXCLUDE_FROM_ALL SYSTEM)
  set_directory_properties(PROPERTIES COMPILE_OPTIONS "${quench_compile_options}")
endblock()
