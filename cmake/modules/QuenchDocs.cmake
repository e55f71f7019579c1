# quench-doc: pages of dialects and passes in build/docs, written by mlir-tblgen from the same .td files as the code.

file(GLOB_RECURSE quench_td CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.td)
set(quench_doc_pages "")

# quench_doc_page(PAGE TD GENERATOR...)
function(quench_doc_page page td)
  set(out ${PROJECT_BINARY_DIR}/docs/${page}.md)
  get_filename_component(folder ${out} DIRECTORY)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${MLIR_TABLEGEN_EXE} ${ARGN} ${PROJECT_SOURCE_DIR}/include/quench/${td} -o ${out}
            -I${PROJECT_SOURCE_DIR}/include "-I$<JOIN:${MLIR_INCLUDE_DIRS},;-I>"
    DEPENDS ${quench_td} COMMAND_EXPAND_LISTS VERBATIM)
  set(quench_doc_pages ${quench_doc_pages} ${out} PARENT_SCOPE)
endfunction()

quench_doc_page(Dialects/Quench Dialect/Quench/IR/QuenchOps.td -gen-dialect-doc -dialect=quench)
quench_doc_page(Dialects/QK Dialect/QK/IR/QKOps.td -gen-dialect-doc -dialect=qk)
# Passes.td of include/quench/Dialect/Quench/Transforms become Passes/Dialect-Quench-Transforms.md.
foreach(td ${quench_td})
  if(td MATCHES "/include/quench/((.*)/Passes.td)$")
    set(path ${CMAKE_MATCH_1})
    string(REPLACE "/" "-" name ${CMAKE_MATCH_2})
    quench_doc_page(Passes/${name} ${path} -gen-pass-doc)
  endif()
endforeach()
add_custom_target(quench-doc ALL DEPENDS ${quench_doc_pages})
