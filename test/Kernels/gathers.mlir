// Tables that do not fit registers: eight coordinates of 8 rows are one gather, which needs no address but its lanes.
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format="aqlm<1x16, group = 8>" n=64 k=4096 int8=1 stages=0},convert-qk-to-x86{features=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni},bare-memref-arguments,canonicalize,cse,convert-scf-to-cf,convert-vector-to-llvm,convert-math-to-llvm,convert-arith-to-llvm,finalize-memref-to-llvm,convert-cf-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},reconcile-unrealized-casts)' \
// RUN:   | mlir-translate --mlir-to-llvmir | opt -O3 -S -mtriple=x86_64-linux-gnu -mattr=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni \
// RUN:   | llc -O3 -mtriple=x86_64-linux-gnu -mattr=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni -o - \
// RUN:   | FileCheck %s

module {}

// Two codewords of 8 weights in a step, two row blocks: 8 gathers and as many dot products, nothing spilled.
// CHECK-LABEL: gemv_aqlm_1x16_group_8_64x4096_a8_pf:
// CHECK: Inner Loop Header
// CHECK-NOT: (%rsp)
// CHECK-COUNT-8: vpgatherdq
// CHECK-NOT: vpgather
// CHECK: jne
