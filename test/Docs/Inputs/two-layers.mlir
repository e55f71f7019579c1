module {
  quench.initializer @large source(dense<0.5> : tensor<64x64xf32>) : tensor<64x64xf32>
  quench.initializer @small source(dense<0.5> : tensor<4x64xf32>) : tensor<4x64xf32>
  func.func @main(%x: tensor<?x64xf32>) -> tensor<?x4xf32> {
    %large = quench.weight @large : tensor<64x64xf32>
    %h = quench.linear %x, %large {role = "up"} : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
    %small = quench.weight @small : tensor<4x64xf32>
    %y = quench.linear %h, %small {role = "head"} : (tensor<?x64xf32>, tensor<4x64xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
