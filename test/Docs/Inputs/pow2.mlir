quench.initializer @w source(dense<0.5> : tensor<64x64xf32>) : tensor<64x64xf32>
func.func @main(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %w = quench.weight @w : tensor<64x64xf32>
  %q = quench.quantize %w using "rtn" : tensor<64x64xf32> -> !quench.tensor<64x64, "pow2">
  %y = quench.linear %x, %q : (tensor<?x64xf32>, !quench.tensor<64x64, "pow2">) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
