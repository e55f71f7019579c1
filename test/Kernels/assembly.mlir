// Whole kernels, down to the assembly: the inner loops consist of what they should.
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format="int<8>" n=64 k=4096 int8=1 stages=0},convert-qk-to-x86{features=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni},bare-memref-arguments,canonicalize,cse,convert-scf-to-cf,convert-vector-to-llvm,convert-math-to-llvm,convert-arith-to-llvm,finalize-memref-to-llvm,convert-cf-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},reconcile-unrealized-casts)' \
// RUN:   | mlir-translate --mlir-to-llvmir | opt -O3 -S -mtriple=x86_64-linux-gnu -mattr=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni \
// RUN:   | llc -O3 -mtriple=x86_64-linux-gnu -mattr=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni -o - \
// RUN:   | FileCheck %s

module {}

// One step of 32 columns for two row blocks: 16 dot products, all loads ahead of them prefetched, no register spilled.
// CHECK-LABEL: gemv_int_8_64x4096_a8_pf:
// CHECK: Inner Loop Header
// CHECK-NOT: (%rsp)
// CHECK: prefetcht0
// CHECK-NOT: (%rsp)
// CHECK-COUNT-16: vpdpbusd
// CHECK-NOT: vpdpbusd
// CHECK: jne

// Codes that are bytes need no panel: nothing is decoded, 8 columns by 2 row blocks stay in registers.
// CHECK-LABEL: gemm_int_8_64x4096_a8_pf:
// CHECK: Inner Loop Header
// CHECK-NOT: (%rsp)
// CHECK-COUNT-16: vpdpbusd
// CHECK: jne
