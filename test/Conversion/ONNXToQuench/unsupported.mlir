// RUN: not quench-opt --quench-import %s 2>&1 | FileCheck %s

// All of them in one error; what only depends on one of them is not named.
// CHECK: error: 3 nodes of the model cannot be converted:
// CHECK-NEXT: node 'first': NonZero (ai.onnx opset 17): it is not supported
// CHECK-NEXT: node 'second': Reshape (ai.onnx opset 17): its target shape depends on data
// CHECK-NEXT: node 'third': Add (ai.onnx opset 17): its operands have sizes 3 and 4, which do not broadcast
// CHECK-NOT: fourth
module attributes {onnx.opset_import = {"ai.onnx" = 17 : i64}} {
  func.func @main(%x: tensor<?xf32> {quench.dims = ["n"]}, %s: tensor<2xi64>, %a: tensor<3xf32>, %b: tensor<4xf32>)
      -> (tensor<1x?xi64>, tensor<?x?xf32>, tensor<?xf32>, tensor<?x?xf32>) {
    %0 = "onnx.NonZero"(%x) : (tensor<?xf32>) -> tensor<1x?xi64> loc("first")
    %1 = "onnx.Reshape"(%x, %s) : (tensor<?xf32>, tensor<2xi64>) -> tensor<?x?xf32> loc("second")
    %2 = "onnx.Add"(%a, %b) : (tensor<3xf32>, tensor<4xf32>) -> tensor<?xf32> loc("third")
    %3 = "onnx.Relu"(%1) : (tensor<?x?xf32>) -> tensor<?x?xf32> loc("fourth")
    return %0, %1, %2, %3 : tensor<1x?xi64>, tensor<?x?xf32>, tensor<?xf32>, tensor<?x?xf32>
  }
}
