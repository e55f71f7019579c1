// A weight of 16384 x 16384 (1 GB as floats) is never unpacked: a kernel allocates nothing, and calls nobody; what it may
// write besides its result is the scratch memory of a worker.
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format="int<4, group = 32>" n=16384 k=16384 int8=1})' \
// RUN:   | FileCheck %s --implicit-check-not=memref.alloc --implicit-check-not=memref.global --implicit-check-not=call
// RUN: quench-opt %s --pass-pipeline='builtin.module(emit-contraction{format="nf4<group = 64>" n=16384 k=16384})' \
// RUN:   | FileCheck %s --implicit-check-not=memref.alloc --implicit-check-not=memref.global --implicit-check-not=call

module {}

// CHECK: func.func @gemv_
// CHECK-SAME: (%[[W:.*]]: memref<?xi8>, %{{.*}}: index, %{{.*}}: memref<?x{{i32|f32}}>, %{{.*}}: memref<?xf32>, %{{.*}}: memref<?x{{i32|f32}}>, %{{.*}}: memref<?xf32>, %{{.*}}: index, %{{.*}}: index)
// CHECK: func.func @gemm_
// CHECK-SAME: %{{.*}}: index, %[[SCRATCH:arg[0-9]+]]: memref<?xi8>, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index)
