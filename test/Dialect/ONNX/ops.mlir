// RUN: quench-opt %s | quench-opt | FileCheck %s
// RUN: quench-opt %s --canonicalize | FileCheck %s --check-prefix=UNUSED

// CHECK-LABEL: func.func @ops
// UNUSED-LABEL: func.func @ops
func.func @ops(%x: tensor<?x8xf32>, %w: tensor<8x4xf32>, %max: tensor<f32>) -> tensor<?x4xf32> {
  // CHECK: "onnx.MatMul"(%{{.*}}, %{{.*}}) : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  %y = "onnx.MatMul"(%x, %w) : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  // CHECK: %[[NONE:.*]] = "onnx.NoValue"() : () -> none
  %none = "onnx.NoValue"() : () -> none
  // CHECK: "onnx.Clip"(%{{.*}}, %[[NONE]], %{{.*}})
  %c = "onnx.Clip"(%y, %none, %max) : (tensor<?x4xf32>, none, tensor<f32>) -> tensor<?x4xf32>
  // CHECK: "onnx.com.microsoft.QuickGelu"(%{{.*}}) {alpha = 1.702000e+00 : f32}
  %g = "onnx.com.microsoft.QuickGelu"(%c) {alpha = 1.702 : f32} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  // Nodes without readers go.
  // CHECK: "onnx.Relu"
  // UNUSED-NOT: onnx.Relu
  %unused = "onnx.Relu"(%g) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  return %g : tensor<?x4xf32>
}
