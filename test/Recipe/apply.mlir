// RUN: quench-interpret %s --recipe w4a8 --print-ir | FileCheck %s
// RUN: quench-interpret %s --recipe e8p --print-ir | FileCheck %s --check-prefix=E8P
// RUN: quench-interpret %s --recipe f32 --print-ir | FileCheck %s --check-prefix=F32
// RUN: not quench-interpret %s --recipe %S/Inputs/no-layer.yaml --print-ir 2>&1 | FileCheck %s --check-prefix=NOLAYER
// RUN: not quench-interpret %s --recipe %S/Inputs/bad-format.yaml --print-ir 2>&1 | FileCheck %s --check-prefix=BADFORMAT

// The table and the head are one weight; gate and up share their quantized input.
// CHECK-LABEL: func.func @main
// CHECK-DAG:   %[[E:.*]] = quench.weight @embed
// CHECK-DAG:   %[[QE:.*]] = quench.quantize %[[E]] using "rtn" {{.*}} -> <6x4, "int<8, group = 32>">
// CHECK:       %[[X:.*]] = quench.embedding %{{.*}}, %[[QE]]
// CHECK:       %[[QX:.*]] = quench.quantize %[[X]] using "rtn" : tensor<?x4xf32> -> <?x4, "int<8>">
// CHECK:       quench.linear %[[QX]], %{{.*}} {role = "gate"}
// CHECK:       quench.quantize %{{.*}} -> <8x4, "int<4, group = 32>">
// CHECK:       quench.linear %[[QX]], %{{.*}} {role = "up"}
// CHECK:       quench.linear %{{.*}}, %[[QE]] {role = "head"}

// No stream here, but a down projection behind a Hadamard matrix on line.
// E8P:         %[[P:.*]] = arith.mulf
// E8P:         %[[HP:.*]] = quench.map #quench.hadamard<8> %[[P]] axis(1)
// E8P:         quench.linear %[[HP]], %{{.*}} {role = "down"} : (tensor<?x8xf32>, !quench.tensor<4x8, "e8p">)

// F32-NOT:     quench.quantize

// NOLAYER: no-layer.yaml': rule 1 (role: q) matches no layer of the model; it has 1 embedding, 1 gate, 1 up, 1 down, 1 head
// BADFORMAT: bad-format.yaml', line 5: format: {{.*}}int<12>

quench.initializer @embed source(dense<0.5> : tensor<6x4xf32>) : tensor<6x4xf32>
quench.initializer @gate source(dense<0.5> : tensor<8x4xf32>) : tensor<8x4xf32>
quench.initializer @up source(dense<0.5> : tensor<4x8xf32>) : tensor<4x8xf32>
quench.initializer @down source(dense<0.5> : tensor<4x8xf32>) : tensor<4x8xf32>
func.func @main(%ids: tensor<?xi64>) -> tensor<?x6xf32> {
  %e = quench.weight @embed : tensor<6x4xf32>
  %x = quench.embedding %ids, %e : (tensor<?xi64>, tensor<6x4xf32>) -> tensor<?x4xf32>
  %wg = quench.weight @gate : tensor<8x4xf32>
  %g = quench.linear %x, %wg {role = "gate"} : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  %wu = quench.weight @up transpose : tensor<8x4xf32>
  %u = quench.linear %x, %wu {role = "up"} : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  %p = arith.mulf %g, %u : tensor<?x8xf32>
  %wd = quench.weight @down : tensor<4x8xf32>
  %d = quench.linear %p, %wd {role = "down"} : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  %y = quench.linear %d, %e {role = "head"} : (tensor<?x4xf32>, tensor<6x4xf32>) -> tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}
