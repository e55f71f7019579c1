# Writes a C file that holds object files as bytes: quench_runtime_objects[] and
# quench_runtime_sizes[], and their number. Each object's hash stands in a comment, so that a compiler
# cache sees that they changed.
string(REPLACE "|" ";" OBJECTS "${OBJECTS}")
set(text "// Made by EmbedObjects.cmake.\n#include <stddef.h>\n")
set(pointers "")
set(sizes "")
set(count 0)
foreach(object ${OBJECTS})
  file(SHA256 ${object} hash)
  string(APPEND text "// ${hash}\n__asm__(\".section .rodata\\n.balign 16\\n\"\n"
    "        \"quench_object_${count}: .incbin \\\"${object}\\\"\\n\"\n"
    "        \"quench_object_end_${count}:\\n.byte 0\\n.previous\\n\");\n"
    "__attribute__((visibility(\"hidden\"))) extern const char quench_object_${count}[], quench_object_end_${count}[];\n")
  list(APPEND pointers "quench_object_${count}")
  list(APPEND sizes "quench_object_end_${count}")
  math(EXPR count "${count} + 1")
endforeach()
list(JOIN pointers ", " pointers)
list(JOIN sizes ", " sizes)
string(APPEND text "const char *const quench_runtime_begin[] = {${pointers}};\n"
  "const char *const quench_runtime_end[] = {${sizes}};\n"
  "const size_t quench_runtime_count = ${count};\n")
file(WRITE ${OUT} "${text}")
