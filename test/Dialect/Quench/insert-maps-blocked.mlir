// RUN: quench-opt %s --quench-insert-maps="rotate-stream rotate-down rotate-values" --split-input-file | FileCheck %s
// RUN: quench-opt %s --quench-insert-maps="rotate-stream rotate-down rotate-values" --split-input-file \
// RUN:   --remarks-filter=quench.* --remark-format=emitRemark 2>&1 >%t.out | FileCheck %s --check-prefix=REMARK

// Streams that must be left alone: nothing is turned, and the remark names what
// stands in the way.
// CHECK-NOT: quench.map

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @g source(#quench.file<"m.data", 0, 32>) : tensor<8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// REMARK: [Missed] stream | Category:quench-insert-maps | Function=layer_norm
// REMARK-SAME: the stream of width 8 from "/tokens" ('quench.embedding') stays as it is: "/ln" ('quench.norm') takes the mean out
func.func @layer_norm(%ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32> loc("/tokens")
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %m = quench.norm "layer" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32> loc("/ln")
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// The norm's gain cannot leave it: an activation function reads it, too.
// REMARK: [Missed] stream
// REMARK-SAME: Function=other_reader
// REMARK-SAME: stays as it is: "/tanh" ('math.tanh') reads the norm 'quench.norm' and is no linear layer
func.func @other_reader(%ids: tensor<?xi64>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %y = quench.linear %h, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %n = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %x = math.tanh %n : tensor<?x8xf32> loc("/tanh")
  return %z, %x : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// A reader of the stream itself.
// REMARK: [Missed] stream
// REMARK-SAME: Function=elementwise_reader
// REMARK-SAME: stays as it is: 'math.tanh' reads the stream and is neither
func.func @elementwise_reader(%ids: tensor<?xi64>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %x = math.tanh %r : tensor<?x8xf32>
  %z = quench.linear %x, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z, %x : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// Two streams, of which one comes from outside, meet in an addition: one class.
// REMARK: [Missed] stream
// REMARK-SAME: Function=two_streams
// REMARK-SAME: stays as it is: function 'two_streams' gives the stream from outside, by argument 1
func.func @two_streams(%ids: tensor<?xi64>, %image: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %j = quench.linear %image, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %s = arith.addf %image, %j : tensor<?x8xf32>
  %both = arith.addf %r, %s : tensor<?x8xf32>
  %m = quench.norm "rms" %both {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>
quench.initializer @codes source(#quench.file<"m.data", 0, 64>) : tensor<8x8xi8>
quench.initializer @scales source(#quench.file<"m.data", 0, 32>) : tensor<8x1xf32>

// Codes that the model brings keep their bits.
// REMARK: [Missed] stream
// REMARK-SAME: Function=brought
// REMARK-SAME: stays as it is: "/q8" ('quench.linear') has a weight that has codes that the model brings
// REMARK: [Missed] down
// REMARK-SAME: the input of "/q8" ('quench.linear') stays as it is: its weight has codes
func.func @brought(%ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %c = quench.weight @codes : tensor<8x8xi8>
  %s = quench.weight @scales : tensor<8x1xf32>
  %a = quench.assemble codes(%c : tensor<8x8xi8>) scales(%s : tensor<8x1xf32>) {bits = 8 : i64, group = 8 : i64} -> tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %a {role = "down"} : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32> loc("/q8")
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// The stream is a result: callers see its coordinates. Values are read by more
// than attention.
// REMARK: [Missed] stream
// REMARK-SAME: Function=results
// REMARK-SAME: stays as it is: "/add" ('arith.addf') is a result of the function
// REMARK: [Missed] values
// REMARK-SAME: the values of "/v" ('quench.linear') stay as they are: 'func.return' reads the values and is no attention
func.func @results(%ids: tensor<1x?xi64>) -> (tensor<1x?x8xf32>, tensor<1x?x8xf32>) {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<1x?xi64>, tensor<64x8xf32>) -> tensor<1x?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %v = quench.linear %n, %w : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32> loc("/v")
  %a = quench.attention %v, %v, %v {heads = 2 : i64, kv_heads = 2 : i64, scale = 0.5 : f32, causal} : tensor<1x?x8xf32>, tensor<1x?x8xf32>, tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %o = quench.linear %a, %w : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
  %r = arith.addf %h, %o : tensor<1x?x8xf32> loc("/add")
  return %r, %v : tensor<1x?x8xf32>, tensor<1x?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// What is added went through an activation function.
// REMARK: [Missed] stream
// REMARK-SAME: Function=other_writer
// REMARK-SAME: stays as it is: 'math.tanh' writes the stream and is neither a linear layer nor an embedding
func.func @other_writer(%ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %x = math.tanh %y : tensor<?x8xf32>
  %r = arith.addf %h, %x : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// A bias of an RMS norm.
// REMARK: [Missed] stream
// REMARK-SAME: Function=norm_bias
// REMARK-SAME: stays as it is: 'quench.norm' adds a bias
func.func @norm_bias(%ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %b = arith.constant dense<1.0> : tensor<8xf32>
  %n = quench.norm "rms" %h bias(%b : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// A gain that is computed.
// REMARK: [Missed] stream
// REMARK-SAME: Function=computed_gain
// REMARK-SAME: stays as it is: 'quench.norm' has a gain that is not an initializer
func.func @computed_gain(%ids: tensor<?xi64>, %g: tensor<8xf32>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h gain(%g : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// -----

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// A weight that is computed.
// REMARK: [Missed] stream
// REMARK-SAME: Function=computed_weight
// REMARK-SAME: stays as it is: 'quench.linear' has a weight that is computed by 'arith.addf'
func.func @computed_weight(%ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x8xf32>) -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %v = arith.addf %w, %w : tensor<8x8xf32>
  %y = quench.linear %n, %v : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.addf %h, %y : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = quench.linear %m, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}
