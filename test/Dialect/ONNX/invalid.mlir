// RUN: quench-opt %s -split-input-file -verify-diagnostics -o /dev/null

func.func @inputs(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{has input size 1 not in range [min=2, max=2]}}
  %y = "onnx.Add"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @attribute(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{Unrecognized attribute: color for operator Relu}}
  %y = "onnx.Relu"(%x) {color = 1 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @kind(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{Mismatched attribute type}}
  %y = "onnx.Softmax"(%x) {axis = 1.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @missing(%x: tensor<4xf32>) -> tensor<4xi64> {
  // expected-error @+1 {{Required attribute 'to' is missing}}
  %y = "onnx.Cast"(%x) : (tensor<4xf32>) -> tensor<4xi64>
  return %y : tensor<4xi64>
}

// -----

func.func @types(%x: f32) -> f32 {
  // expected-error @+1 {{takes tensors and none, not 'f32'}}
  %y = "onnx.Relu"(%x) : (f32) -> f32
  return %y : f32
}

// -----

// The version that the module imports decides.
module attributes {onnx.opset_import = {ai.onnx = 17 : i64}} {
  func.func @version(%x: tensor<4xf32>, %g: tensor<4xf32>) -> tensor<4xf32> {
    // expected-error @+1 {{in later operator sets only}}
    %y = "onnx.RMSNormalization"(%x, %g) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    return %y : tensor<4xf32>
  }
}

// -----

module attributes {onnx.opset_import = {ai.onnx = 17 : i64}} {
  func.func @domain(%x: tensor<4xf32>) -> tensor<4xf32> {
    // expected-error @+1 {{is of domain 'com.microsoft', which onnx.opset_import does not name}}
    %y = "onnx.com.microsoft.QuickGelu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
    return %y : tensor<4xf32>
  }
}

// -----

// expected-error @+1 {{attribute 'onnx.opset_import' is a dictionary}}
module attributes {onnx.opset_import = {ai.onnx = "17"}} {}

// -----

// expected-error @+1 {{attribute 'onnx.other' is not one of the onnx dialect's}}
module attributes {onnx.other} {}

// -----

func.func @novalue() {
  // expected-error @+1 {{has no operands and one result of type none}}
  %0 = "onnx.NoValue"() : () -> i32
  return
}
