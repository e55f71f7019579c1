// RUN: quench-opt --quench-import %s | FileCheck %s

module attributes {onnx.opset_import = {ai.onnx = 17 : i64, com.microsoft = 1 : i64}} {

quench.initializer @w source(#quench.file<"w.data", 0, 48>) : tensor<3x4xf32>
quench.initializer @wt source(#quench.file<"w.data", 48, 48>) : tensor<4x3xf32>
quench.initializer @half source(#quench.file<"w.data", 96, 24>) : tensor<3x4xf16>
quench.initializer @b source(dense<1.5> : tensor<4xf32>) : tensor<4xf32>
quench.initializer @table source(#quench.file<"w.data", 200, 60>) : tensor<5x3xf32>
quench.initializer @codes source(#quench.file<"w.data", 300, 12>) : tensor<3x4xi8>
quench.initializer @scale source(dense<0.5> : tensor<f32>) : tensor<f32>
quench.initializer @q4 source(#quench.file<"w.data", 400, 64>) : tensor<4x2x8xui8>
quench.initializer @bnb source(dense<33> : tensor<64xui8>) : tensor<64xui8>
quench.initializer @q4s source(#quench.file<"w.data", 528, 32>) : tensor<8xf32>
quench.initializer @q4z source(dense<[1, 2, 3, 4]> : tensor<4xui8>) : tensor<4xui8>

// CHECK-LABEL: func.func @products(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x3xf32>
func.func @products(%x: tensor<?x3xf32> {quench.dims = ["n", "3"]})
    -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) {
  %w = quench.weight @w : tensor<3x4xf32>
  %wt = quench.weight @wt : tensor<4x3xf32>
  %half = quench.weight @half : tensor<3x4xf16>
  %b = quench.weight @b : tensor<4xf32>
  // A product, its bias behind it.
  // CHECK-DAG: %[[W:.*]] = quench.weight @w transpose : tensor<4x3xf32>
  // CHECK-DAG: %[[B:.*]] = quench.weight @b : tensor<4xf32>
  // CHECK-DAG: quench.linear %[[X]], %[[W]] bias(%[[B]] : tensor<4xf32>) {role = "other"}
  %0 = "onnx.MatMul"(%x, %w) : (tensor<?x3xf32>, tensor<3x4xf32>) -> tensor<?x4xf32>
  %1 = "onnx.Add"(%b, %0) : (tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  // A weight that is transposed in the graph.
  // CHECK-DAG: %[[WT:.*]] = quench.weight @wt : tensor<4x3xf32>
  // CHECK-DAG: quench.linear %[[X]], %[[WT]] {role = "other"}
  %2 = "onnx.Transpose"(%wt) {perm = array<i64: 1, 0>} : (tensor<4x3xf32>) -> tensor<3x4xf32>
  %3 = "onnx.MatMul"(%x, %2) : (tensor<?x3xf32>, tensor<3x4xf32>) -> tensor<?x4xf32>
  // CHECK-DAG: quench.linear %[[X]], %[[WT]] bias(%[[B]] : tensor<4xf32>)
  %4 = "onnx.Gemm"(%x, %wt, %b) {transB = 1 : i64} : (tensor<?x3xf32>, tensor<4x3xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  // CHECK-DAG: %[[HALF:.*]] = quench.weight @half transpose : tensor<4x3xf32>
  // CHECK-DAG: quench.linear %[[X]], %[[HALF]]
  %5 = "onnx.Cast"(%half) {to = 1 : i64} : (tensor<3x4xf16>) -> tensor<3x4xf32>
  %6 = "onnx.MatMul"(%x, %5) : (tensor<?x3xf32>, tensor<3x4xf32>) -> tensor<?x4xf32>
  // Scaled by alpha: not a linear layer, but computed all the same.
  // CHECK-DAG: arith.constant 2.500000e-01 : f32
  %7 = "onnx.Gemm"(%x, %w) {alpha = 0.25 : f32} : (tensor<?x3xf32>, tensor<3x4xf32>) -> tensor<?x4xf32>
  // CHECK: return
  return %1, %3, %4, %6, %7 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
}

// CHECK-LABEL: func.func @quantized(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x3xf32> {{{[^}]*}}}, %[[Y:[^:]*]]: tensor<?x32xf32>
func.func @quantized(%x: tensor<?x3xf32> {quench.dims = ["n", "3"]}, %y: tensor<?x32xf32> {quench.dims = ["n", "32"]})
    -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) {
  %codes = quench.weight @codes : tensor<3x4xi8>
  %scale = quench.weight @scale : tensor<f32>
  // CHECK-DAG: %[[CODES:.*]] = quench.weight @codes transpose : tensor<4x3xi8>
  // CHECK-DAG: %[[SCALE:.*]] = quench.weight @scale : tensor<f32>
  // CHECK-DAG: %[[A:.*]] = quench.assemble codes(%[[CODES]] : tensor<4x3xi8>) scales(%[[SCALE]] : tensor<f32>) {bits = 8 : i64, group = 3 : i64} -> tensor<4x3xf32>
  // CHECK-DAG: quench.linear %[[X]], %[[A]]
  %0 = "onnx.DequantizeLinear"(%codes, %scale) : (tensor<3x4xi8>, tensor<f32>) -> tensor<3x4xf32>
  %1 = "onnx.MatMul"(%x, %0) : (tensor<?x3xf32>, tensor<3x4xf32>) -> tensor<?x4xf32>
  // Codes without zero points count from the middle.
  %q4 = quench.weight @q4 : tensor<4x2x8xui8>
  %q4s = quench.weight @q4s : tensor<8xf32>
  %q4z = quench.weight @q4z : tensor<4xui8>
  // CHECK-DAG: %[[MIDDLE:.*]] = quench.weight @quench.zero_points.4x4x2 : tensor<4x1xui8>
  // CHECK-DAG: quench.assemble codes({{.*}} : tensor<4x2x8xui8>) scales({{.*}} : tensor<8xf32>) zeros(%[[MIDDLE]] : tensor<4x1xui8>) {bits = 4 : i64, group = 16 : i64} -> tensor<4x32xf32>
  %2 = "onnx.com.microsoft.MatMulNBits"(%y, %q4, %q4s) {K = 32 : i64, N = 4 : i64, bits = 4 : i64, block_size = 16 : i64} : (tensor<?x32xf32>, tensor<4x2x8xui8>, tensor<8xf32>) -> tensor<?x4xf32>
  // CHECK-DAG: %[[Z:.*]] = quench.weight @q4z : tensor<4xui8>
  // CHECK-DAG: quench.assemble codes({{.*}}) scales({{.*}}) zeros(%[[Z]] : tensor<4xui8>)
  %3 = "onnx.com.microsoft.MatMulNBits"(%y, %q4, %q4s, %q4z) {K = 32 : i64, N = 4 : i64, bits = 4 : i64, block_size = 16 : i64} : (tensor<?x32xf32>, tensor<4x2x8xui8>, tensor<8xf32>, tensor<4xui8>) -> tensor<?x4xf32>
  // CHECK: return
  return %1, %2, %3 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
}

// CHECK-LABEL: func.func @bnb4(
func.func @bnb4(%x: tensor<?x32xf32> {quench.dims = ["n", "32"]}) -> (tensor<?x4xf32>) {
  %q4 = quench.weight @bnb : tensor<64xui8>
  %q4s = quench.weight @q4s : tensor<8xf32>
  // CHECK: quench.assemble codes({{.*}} : tensor<64xui8>) scales({{.*}} : tensor<8xf32>) {bits = 4 : i64, group = 16 : i64, levels = array<f32: -1.000000e+00, {{.*}}, 1.000000e+00>} -> tensor<4x32xf32>
  // CHECK: quench.linear
  %0 = "onnx.com.microsoft.MatMulBnb4"(%x, %q4, %q4s) {K = 32 : i64, N = 4 : i64, block_size = 16 : i64, quant_type = 1 : i64} : (tensor<?x32xf32>, tensor<64xui8>, tensor<8xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// A table that is a weight of the head, too.
// CHECK-LABEL: func.func @tied(
// CHECK-SAME: %[[IDS:[^:]*]]: tensor<?xi64>
// CHECK: %[[TABLE:.*]] = quench.weight @table : tensor<5x3xf32>
// CHECK: %[[E:.*]] = quench.embedding %[[IDS]], %[[TABLE]]
// CHECK: quench.linear %[[E]], %[[TABLE]]
func.func @tied(%ids: tensor<?xi64> {quench.dims = ["n"]}) -> tensor<?x5xf32> {
  %table = quench.weight @table : tensor<5x3xf32>
  %0 = "onnx.Gather"(%table, %ids) : (tensor<5x3xf32>, tensor<?xi64>) -> tensor<?x3xf32>
  %1 = "onnx.Transpose"(%table) {perm = array<i64: 1, 0>} : (tensor<5x3xf32>) -> tensor<3x5xf32>
  %2 = "onnx.MatMul"(%0, %1) : (tensor<?x3xf32>, tensor<3x5xf32>) -> tensor<?x5xf32>
  return %2 : tensor<?x5xf32>
}

}
