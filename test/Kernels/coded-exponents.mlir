// Exponents of variable length: what a kernel keeps of a weight of 16384 x 16384 is the bits that each of 32 rows has
// left, in two streams; nothing is allocated and nobody is called.
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format=dfloat11 n=16384 k=16384})' \
// RUN:   | FileCheck %s --check-prefix=MEMORY --implicit-check-not=memref.alloc --implicit-check-not=memref.global --implicit-check-not=call

// MEMORY-LABEL: func.func @gemv_
// MEMORY-COUNT-4: memref.alloca() {{.*}}: memref<16xi32>{{[[:space:]].*}}memref.alloca() {{.*}}: memref<16xi32>{{[[:space:]].*}}memref.alloca() : memref<1xindex>
// MEMORY-LABEL: func.func @gemm_
// MEMORY-COUNT-4: memref.alloca() {{.*}}: memref<16xi32>{{[[:space:]].*}}memref.alloca() {{.*}}: memref<16xi32>{{[[:space:]].*}}memref.alloca() : memref<1xindex>

// In machine code even these lie in registers: 4 columns of two row blocks by 8 lookups of either table, no stack.
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format=dfloat11 n=64 k=4096 stages=0},convert-qk-to-x86{features=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vbmi},bare-memref-arguments,canonicalize,cse,convert-scf-to-cf,expand-strided-metadata,convert-vector-to-llvm,convert-math-to-llvm,convert-arith-to-llvm,finalize-memref-to-llvm,convert-cf-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},reconcile-unrealized-casts)' \
// RUN:   | mlir-translate --mlir-to-llvmir | opt -O3 -S -mtriple=x86_64-linux-gnu -mattr=+popcnt,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vbmi,+avx512vbmi2 \
// RUN:   | llc -O3 -mtriple=x86_64-linux-gnu -mattr=+popcnt,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vbmi,+avx512vbmi2 -o - \
// RUN:   | sed -n '/^gemv/,/jne/p' | FileCheck %s --check-prefix=CODE

// CODE-LABEL: gemv_dfloat11_64x4096_pf:
// CODE: Inner Loop Header
// CODE-NOT: (%rsp)
// CODE-COUNT-8: vpexpandw
// CODE-NOT: vpexpandw
// CODE-NOT: (%rsp)
// CODE: jne

module {}
