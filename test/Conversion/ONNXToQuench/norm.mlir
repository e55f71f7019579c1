// RUN: quench-opt --quench-import %s | FileCheck %s

module attributes {onnx.opset_import = {ai.onnx = 17 : i64, com.microsoft = 1 : i64}} {

quench.initializer @two source(dense<2.0> : tensor<f32>) : tensor<f32>
quench.initializer @one source(dense<1.0> : tensor<f32>) : tensor<f32>
quench.initializer @eps source(dense<1.0e-5> : tensor<f32>) : tensor<f32>
quench.initializer @gain source(dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>) : tensor<4xf32>

// The inverse of the root, times x, times the gain.
// CHECK-LABEL: func.func @inverse(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x4xf32>
// CHECK: %[[G:.*]] = quench.weight @gain
// CHECK: quench.norm "rms" %[[X]] gain(%[[G]] : tensor<4xf32>) {epsilon = {{9.99.*E-6|1.0.*E-05}} : f32}
// CHECK-NOT: linalg
func.func @inverse(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}) -> tensor<?x4xf32> {
  %two = quench.weight @two : tensor<f32>
  %one = quench.weight @one : tensor<f32>
  %eps = quench.weight @eps : tensor<f32>
  %gain = quench.weight @gain : tensor<4xf32>
  %0 = "onnx.Pow"(%x, %two) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
  %1 = "onnx.ReduceMean"(%0) {axes = array<i64: -1>, keepdims = 1 : i64} : (tensor<?x4xf32>) -> tensor<?x1xf32>
  %2 = "onnx.Add"(%1, %eps) : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
  %3 = "onnx.Sqrt"(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = "onnx.Div"(%one, %3) : (tensor<f32>, tensor<?x1xf32>) -> tensor<?x1xf32>
  %5 = "onnx.Mul"(%x, %4) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  %6 = "onnx.Mul"(%gain, %5) : (tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return %6 : tensor<?x4xf32>
}

// x * x, divided by the root; no gain.
// CHECK-LABEL: func.func @square(
// CHECK: quench.norm "rms" %{{[^ ]*}} {epsilon
// CHECK-NOT: linalg
func.func @square(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}) -> tensor<?x4xf32> {
  %eps = quench.weight @eps : tensor<f32>
  %0 = "onnx.Mul"(%x, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = "onnx.ReduceMean"(%0) {axes = array<i64: 1>} : (tensor<?x4xf32>) -> tensor<?x1xf32>
  %2 = "onnx.Add"(%1, %eps) : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
  %3 = "onnx.Sqrt"(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = "onnx.Div"(%x, %3) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  return %4 : tensor<?x4xf32>
}

// Written-out layer norm.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x4xf32>
// CHECK: quench.norm "layer" %[[X]] gain({{.*}}) bias({{.*}})
// CHECK-NOT: linalg
func.func @layer(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}) -> tensor<?x4xf32> {
  %two = quench.weight @two : tensor<f32>
  %eps = quench.weight @eps : tensor<f32>
  %gain = quench.weight @gain : tensor<4xf32>
  %m = "onnx.ReduceMean"(%x) {axes = array<i64: -1>} : (tensor<?x4xf32>) -> tensor<?x1xf32>
  %d = "onnx.Sub"(%x, %m) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  %0 = "onnx.Pow"(%d, %two) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
  %1 = "onnx.ReduceMean"(%0) {axes = array<i64: -1>} : (tensor<?x4xf32>) -> tensor<?x1xf32>
  %2 = "onnx.Add"(%1, %eps) : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
  %3 = "onnx.Sqrt"(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = "onnx.Div"(%d, %3) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  %5 = "onnx.Mul"(%4, %gain) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %6 = "onnx.Add"(%5, %gain) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  return %6 : tensor<?x4xf32>
}

// A mean over another axis is no norm.
// CHECK-LABEL: func.func @otherAxis(
// CHECK-NOT: quench.norm
// CHECK: linalg.generic
func.func @otherAxis(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}) -> tensor<?x4xf32> {
  %eps = quench.weight @eps : tensor<f32>
  %0 = "onnx.Mul"(%x, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = "onnx.ReduceMean"(%0) {axes = array<i64: 0>} : (tensor<?x4xf32>) -> tensor<1x4xf32>
  %2 = "onnx.Add"(%1, %eps) : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %3 = "onnx.Sqrt"(%2) : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %4 = "onnx.Div"(%x, %3) : (tensor<?x4xf32>, tensor<1x4xf32>) -> tensor<?x4xf32>
  return %4 : tensor<?x4xf32>
}

// The op forms.
// CHECK-LABEL: func.func @ops(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x4xf32>
// CHECK: %[[A:.*]] = quench.norm "layer" %[[X]] gain({{.*}}) bias({{.*}}) {epsilon = 1.000000e-03 : f32}
// CHECK: %[[B:.*]] = quench.norm "rms" %[[A]] gain
// CHECK: %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[B]], %[[X]] :
// CHECK: arith.addf
// CHECK: %[[C:.*]] = quench.norm "rms" %[[SUM]] gain
// CHECK: return %[[C]], %[[SUM]]
func.func @ops(%x: tensor<?x4xf32> {quench.dims = ["n", "4"]}) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %gain = quench.weight @gain : tensor<4xf32>
  %0 = "onnx.LayerNormalization"(%x, %gain, %gain) {axis = -1 : i64, epsilon = 1.0e-3 : f32} : (tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %1 = "onnx.SimplifiedLayerNormalization"(%0, %gain) {axis = -1 : i64} : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %2:4 = "onnx.com.microsoft.SkipSimplifiedLayerNormalization"(%1, %x, %gain) : (tensor<?x4xf32>, tensor<?x4xf32>, tensor<4xf32>) -> (tensor<?x4xf32>, none, none, tensor<?x4xf32>)
  return %2#0, %2#3 : tensor<?x4xf32>, tensor<?x4xf32>
}

}
