// RUN: quench-opt %s --quench-insert-maps="rotate-stream rotate-down rotate-values seed=7" --split-input-file \
// RUN:   | FileCheck %s
// RUN: quench-opt %s --quench-insert-maps="rotate-stream rotate-down rotate-values seed=7" --split-input-file \
// RUN:   --remarks-filter=quench.* --remark-format=emitRemark 2>&1 >%t.out | FileCheck %s --check-prefix=REMARK
// RUN: quench-opt %s --quench-insert-maps="rotate-o" --split-input-file | FileCheck %s --check-prefix=ONLINE

// A whole block. The gain leaves the norm, the stream's map is on every weight
// that writes or reads it, and one map stays on line.

quench.initializer @embed source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @ln1 source(#quench.file<"m.data", 0, 32>) : tensor<8xf32>
quench.initializer @ln2 source(#quench.file<"m.data", 0, 32>) : tensor<8xf32>
quench.initializer @lnf source(#quench.file<"m.data", 0, 32>) : tensor<8xf32>
quench.initializer @q source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>
quench.initializer @k source(#quench.file<"m.data", 0, 128>) : tensor<8x4xf32>
quench.initializer @v source(#quench.file<"m.data", 0, 128>) : tensor<8x4xf32>
quench.initializer @v_bias source(#quench.file<"m.data", 0, 16>) : tensor<4xf32>
quench.initializer @o source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>
quench.initializer @o_bias source(#quench.file<"m.data", 0, 32>) : tensor<8xf32>
quench.initializer @up source(#quench.file<"m.data", 0, 384>) : tensor<8x12xf32>
quench.initializer @down source(#quench.file<"m.data", 0, 384>) : tensor<12x8xf32>
quench.initializer @head source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>

// REMARK: remark: {{.*}}[Passed] stream | Category:quench-insert-maps | Function=block
// REMARK-SAME: the stream of width 8 from "/embed/Gather" ('quench.embedding') is turned by
// REMARK-SAME: 3 writers, 3 readers
// REMARK: remark: {{.*}}[Passed] values
// REMARK-SAME: the values of "/v/MatMul" ('quench.linear') are turned by #quench.hadamard<4, block = 4>
// REMARK: remark: {{.*}}[Passed] down
// REMARK-SAME: the input of "/down/MatMul" ('quench.linear') is turned on line by #quench.hadamard<12>

// CHECK-LABEL: func.func @block
// CHECK: %[[E:.*]] = quench.weight @embed
// CHECK: %[[EQ:.*]] = quench.map [[Q:#quench.product<.#quench.signs<8, seed = 7>, #quench.hadamard<8>.>]] %[[E]] axis(1)
// CHECK: quench.embedding %{{.*}}, %[[EQ]]
// CHECK: quench.norm "rms" %{{[0-9a-z]+}} {epsilon
// CHECK: %[[WQ:.*]] = quench.weight @q transpose
// CHECK: %[[WQ1:.*]] = quench.map #quench.diag<@ln1, 8> %[[WQ]] axis(1)
// CHECK: %[[WQ2:.*]] = quench.map [[Q]] %[[WQ1]] axis(1)
// CHECK: quench.linear %{{.*}}, %[[WQ2]] {role = "q"}
// CHECK: quench.map #quench.diag<@ln1, 8>
// CHECK: %[[WK:.*]] = quench.map [[Q]] {{.*}} axis(1) : tensor<4x8xf32>
// CHECK: quench.linear %{{.*}}, %[[WK]] {role = "k"}
// CHECK: %[[WV:.*]] = quench.map [[Q]] {{.*}} axis(1) : tensor<4x8xf32>
// CHECK: %[[WVH:.*]] = quench.map #quench.hadamard<4, block = 4> %[[WV]] axis(0)
// CHECK: %[[BV:.*]] = quench.map #quench.hadamard<4, block = 4> {{.*}} axis(0) : tensor<4xf32>
// CHECK: quench.linear %{{.*}}, %[[WVH]] bias(%[[BV]]
// CHECK: quench.attention
// CHECK: %[[WO:.*]] = quench.map [[Q]] {{.*}} axis(0) : tensor<8x8xf32>
// CHECK: %[[BO:.*]] = quench.map [[Q]] {{.*}} axis(0) : tensor<8xf32>
// CHECK: %[[WOH:.*]] = quench.map #quench.hadamard<8, block = 4> %[[WO]] axis(1)
// CHECK: quench.linear %{{.*}}, %[[WOH]] bias(%[[BO]]
// CHECK: linalg.generic
// CHECK: quench.norm "rms" %{{[0-9a-z]+}} {epsilon
// CHECK: quench.map #quench.diag<@ln2, 8> {{.*}} axis(1) : tensor<12x8xf32>
// CHECK: %[[P:.*]] = math.tanh
// CHECK: %[[WD:.*]] = quench.map [[Q]] {{.*}} axis(0) : tensor<8x12xf32>
// CHECK: %[[PH:.*]] = quench.map #quench.hadamard<12> %[[P]] axis(2)
// CHECK: %[[WDH:.*]] = quench.map #quench.hadamard<12> %[[WD]] axis(1)
// CHECK: quench.linear %[[PH]], %[[WDH]] {role = "down"}
// CHECK: quench.norm "rms" %{{[0-9a-z]+}} {epsilon
// CHECK: quench.last_rows
// CHECK: quench.map #quench.diag<@lnf, 8>
// CHECK: %[[WH:.*]] = quench.map [[Q]] {{.*}} axis(1) : tensor<64x8xf32>
// CHECK: quench.linear %{{.*}}, %[[WH]] {role = "head"}

// ONLINE-LABEL: func.func @block(
// ONLINE: %[[X:.*]] = quench.map #quench.hadamard<8> %{{.*}} axis(2)
// ONLINE: %[[W:.*]] = quench.map #quench.hadamard<8> %{{.*}} axis(1)
// ONLINE: quench.linear %[[X]], %[[W]] bias({{.*}}) {{.*}}role = "o"
// ONLINE-NOT: quench.map
// ONLINE: return
#id = affine_map<(a, b, c) -> (a, b, c)>
func.func @block(%ids: tensor<1x?xi64>, %last: index) -> tensor<1x?x64xf32> {
  %c1 = arith.constant 1 : index
  %e = quench.weight @embed : tensor<64x8xf32>
  %h0 = quench.embedding %ids, %e : (tensor<1x?xi64>, tensor<64x8xf32>) -> tensor<1x?x8xf32> loc("/embed/Gather")
  %g1 = quench.weight @ln1 : tensor<8xf32>
  %n1 = quench.norm "rms" %h0 gain(%g1 : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %wq = quench.weight @q transpose : tensor<8x8xf32>
  %q = quench.linear %n1, %wq {role = "q"} : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
  %wk = quench.weight @k transpose : tensor<4x8xf32>
  %k = quench.linear %n1, %wk {role = "k"} : (tensor<1x?x8xf32>, tensor<4x8xf32>) -> tensor<1x?x4xf32>
  %wv = quench.weight @v transpose : tensor<4x8xf32>
  %bv = quench.weight @v_bias : tensor<4xf32>
  %v = quench.linear %n1, %wv bias(%bv : tensor<4xf32>) {role = "v"} : (tensor<1x?x8xf32>, tensor<4x8xf32>) -> tensor<1x?x4xf32> loc("/v/MatMul")
  %a = quench.attention %q, %k, %v {heads = 2 : i64, kv_heads = 1 : i64, scale = 0.5 : f32, causal} : tensor<1x?x8xf32>, tensor<1x?x4xf32>, tensor<1x?x4xf32> -> tensor<1x?x8xf32>
  %wo = quench.weight @o transpose : tensor<8x8xf32>
  %bo = quench.weight @o_bias : tensor<8xf32>
  %o = quench.linear %a, %wo bias(%bo : tensor<8xf32>) {role = "o"} : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
  %s = tensor.dim %o, %c1 : tensor<1x?x8xf32>
  %init = tensor.empty(%s) : tensor<1x?x8xf32>
  %h1 = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%h0, %o : tensor<1x?x8xf32>, tensor<1x?x8xf32>) outs(%init : tensor<1x?x8xf32>) {
  ^bb0(%x: f32, %y: f32, %z: f32):
    %sum = arith.addf %x, %y : f32
    linalg.yield %sum : f32
  } -> tensor<1x?x8xf32>
  %g2 = quench.weight @ln2 : tensor<8xf32>
  %n2 = quench.norm "rms" %h1 gain(%g2 : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %wu = quench.weight @up transpose : tensor<12x8xf32>
  %u = quench.linear %n2, %wu {role = "up"} : (tensor<1x?x8xf32>, tensor<12x8xf32>) -> tensor<1x?x12xf32>
  %p = math.tanh %u : tensor<1x?x12xf32>
  %wd = quench.weight @down transpose : tensor<8x12xf32>
  %d = quench.linear %p, %wd {role = "down"} : (tensor<1x?x12xf32>, tensor<8x12xf32>) -> tensor<1x?x8xf32> loc("/down/MatMul")
  %h2 = arith.addf %h1, %d : tensor<1x?x8xf32>
  %gf = quench.weight @lnf : tensor<8xf32>
  %nf = quench.norm "rms" %h2 gain(%gf : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %r = quench.last_rows %nf, %last : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  %wh = quench.weight @head : tensor<64x8xf32>
  %y = quench.linear %r, %wh {role = "head"} : (tensor<1x?x8xf32>, tensor<64x8xf32>) -> tensor<1x?x64xf32>
  return %y : tensor<1x?x64xf32>
}

// -----

// A tied head: the table stays as it is, the embedding's result is turned on
// line, and turned back before the last norm, which keeps its gain. Hadamard
// matrices of order 12 are not symmetric: the inverse is the transposed one.

quench.initializer @table source(#quench.file<"m.data", 0, 3072>) : tensor<64x12xf32>
quench.initializer @gain source(#quench.file<"m.data", 0, 48>) : tensor<12xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 576>) : tensor<12x12xf32>

// REMARK: [Passed] stream
// REMARK-SAME: a head shares the table of an embedding: 2 maps stay on line

// CHECK-LABEL: func.func @tied
// CHECK: %[[T:.*]] = quench.weight @table
// CHECK: %[[E:.*]] = quench.embedding %{{.*}}, %[[T]]
// CHECK: %[[H:.*]] = quench.map [[Q:#quench.product<.#quench.signs<12, seed = 7>, #quench.hadamard<12>.>]] %[[E]] axis(1)
// CHECK: quench.norm "rms" %[[H]] {epsilon
// CHECK: %[[R:.*]] = arith.addf %[[H]]
// CHECK: %[[G:.*]] = quench.weight @gain
// CHECK: %[[HB:.*]] = quench.map #quench.product<[#quench.hadamard<12, transpose = true>, #quench.signs<12, seed = 7>]> %[[R]] axis(1)
// CHECK: %[[N:.*]] = quench.norm "rms" %[[HB]] gain(%[[G]]
// CHECK: quench.linear %[[N]], %[[T]]
func.func @tied(%ids: tensor<?xi64>) -> tensor<?x64xf32> {
  %t = quench.weight @table : tensor<64x12xf32>
  %h = quench.embedding %ids, %t : (tensor<?xi64>, tensor<64x12xf32>) -> tensor<?x12xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x12xf32> -> tensor<?x12xf32>
  %w = quench.weight @w : tensor<12x12xf32>
  %y = quench.linear %n, %w : (tensor<?x12xf32>, tensor<12x12xf32>) -> tensor<?x12xf32>
  %r = arith.addf %h, %y : tensor<?x12xf32>
  %g = quench.weight @gain : tensor<12xf32>
  %m = quench.norm "rms" %r gain(%g : tensor<12xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x12xf32> -> tensor<?x12xf32>
  %l = quench.linear %m, %t : (tensor<?x12xf32>, tensor<64x12xf32>) -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// -----

// Scaling by one number and reshapes do not stand in the way.

quench.initializer @t source(#quench.file<"m.data", 0, 2048>) : tensor<64x8xf32>
quench.initializer @w source(#quench.file<"m.data", 0, 256>) : tensor<8x8xf32>

// REMARK: [Passed] stream
// REMARK-SAME: Function=scaled
// REMARK-SAME: 2 writers, 2 readers

// CHECK-LABEL: func.func @scaled
// CHECK-COUNT-4: quench.map #quench.product<[#quench.signs<8, seed = 7>, #quench.hadamard<8>]> {{.*}} axis({{[01]}}) : tensor<{{8|64}}x8xf32>
// CHECK-NOT: quench.map
#id = affine_map<(a, b) -> (a, b)>
func.func @scaled(%ids: tensor<1x?xi64>, %size: index) -> tensor<?x8xf32> {
  %t = quench.weight @t : tensor<64x8xf32>
  %w = quench.weight @w : tensor<8x8xf32>
  %e = quench.embedding %ids, %t : (tensor<1x?xi64>, tensor<64x8xf32>) -> tensor<1x?x8xf32>
  %flat = tensor.collapse_shape %e [[0, 1], [2]] : tensor<1x?x8xf32> into tensor<?x8xf32>
  %eight = arith.constant 8.0 : f32
  %init = tensor.empty(%size) : tensor<?x8xf32>
  %h = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%flat : tensor<?x8xf32>) outs(%init : tensor<?x8xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = arith.mulf %x, %eight : f32
    linalg.yield %p : f32
  } -> tensor<?x8xf32>
  %n = quench.norm "rms" %h {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = quench.linear %n, %w : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = arith.subf %h, %y : tensor<?x8xf32>
  %m = quench.norm "rms" %r {epsilon = 1.0e-5 : f32} : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = tensor.cast %m : tensor<?x8xf32> to tensor<4x8xf32>
  %z = quench.linear %c, %w : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %d = tensor.cast %z : tensor<4x8xf32> to tensor<?x8xf32>
  return %d : tensor<?x8xf32>
}
