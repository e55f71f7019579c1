// RUN: quench-opt %s --pass-pipeline='builtin.module(quench-compare{passes=canonicalize,cse})' | FileCheck %s
// RUN: quench-opt %s --pass-pipeline='builtin.module(quench-compare{passes=func.func(linalg-generalize-named-ops),linalg-fuse-elementwise-ops})' | FileCheck %s --check-prefix=FUSE
// RUN: not quench-opt %s --pass-pipeline='builtin.module(quench-compare{passes=one-shot-bufferize{allow-unknown-ops}})' 2>&1 | FileCheck %s --check-prefix=BUFFERS
// RUN: not quench-opt %s --pass-pipeline='builtin.module(quench-compare{passes=no-such-pass})' 2>&1 | FileCheck %s --check-prefix=NOPASS
// RUN: not quench-opt %s --pass-pipeline='builtin.module(quench-compare{function=other})' 2>&1 | FileCheck %s --check-prefix=NOFUNCTION
// RUN: not quench-opt %s --pass-pipeline='builtin.module(quench-compare{passes=canonicalize tolerance=1e-12})' 2>&1 | FileCheck %s --check-prefix=DIFFER

// The map before the layer and its inverse cancel.
// CHECK-LABEL: func.func @main
// CHECK-NOT:   quench.map
// CHECK:       quench.linear

// FUSE: linalg.generic
// BUFFERS: cannot compare before and after {{.*}}does not know these ops: {{.*}}bufferization
// NOPASS: not a pipeline
// Two Hadamard matrices round what is nothing afterwards.
// DIFFER: after 'canonicalize' the results of 'main' differ by {{.*}}e-08 of their greatest value, allowed are 1.000000e-12
// NOFUNCTION: no function 'other'

quench.initializer @w source(dense<[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, -8.0]]> : tensor<2x4xf32>) : tensor<2x4xf32>
func.func @main(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}, %p: tensor<?xf32> {quench.dims = ["n + 1"]}) -> (tensor<?x2xf32>, tensor<?xf32>) {
  %0 = quench.map #quench.hadamard<4> %x axis(1) : tensor<?x4xf32> -> tensor<?x4xf32>
  %1 = quench.map #quench.hadamard<4> %0 axis(1) : tensor<?x4xf32> -> tensor<?x4xf32>
  %w = quench.weight @w : tensor<2x4xf32>
  %y = quench.linear %1, %w : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
  %c0 = arith.constant 0 : index
  %n = tensor.dim %p, %c0 : tensor<?xf32>
  %e = tensor.empty(%n) : tensor<?xf32>
  %a = linalg.exp ins(%p : tensor<?xf32>) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %b = linalg.add ins(%a, %p : tensor<?xf32>, tensor<?xf32>) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  return %y, %b : tensor<?x2xf32>, tensor<?xf32>
}
