// RUN: quench-opt %s --split-input-file --quench-make-state --verify-diagnostics | FileCheck %s

// A small decoder in the form that the conversion makes: masks and positions are inputs, the norm before the head
// needs the last rows only.

// CHECK: module attributes {quench.state = ["past.0.key", "past.0.value"]}
// CHECK: func.func @main
// CHECK: func.func @decode(%[[IDS:.*]]: tensor<1x1xi64> {quench.dims = ["1", "1"], quench.name = "input_ids"},
// CHECK-SAME: %[[K:.*]]: memref<2x?x4x16xf32> {quench.keys, quench.state = "past.0.key"},
// CHECK-SAME: %[[V:.*]]: memref<2x?x4xf32> {quench.state = "past.0.value"})
// CHECK-SAME: -> (tensor<1x1x32xf32> {quench.dims = ["1", "1", "32"], quench.name = "logits"})
// CHECK-SAME: quench.limits = {"past + sequence" = 64 : i64}
// CHECK-SAME: quench.symbols = ["sequence", "past", "capacity", "keep"]
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[PAST:.*]] = quench.dim "past"
// CHECK: linalg.generic
// CHECK: quench.embedding %[[IDS]], %{{.*}} : (tensor<1x1xi64>, tensor<32x8xf32>) -> tensor<1x1x8xf32>
// CHECK: quench.rotary
// CHECK: %[[ROWS:.*]] = quench.rotary {{.*}} : tensor<1x1x8xf32>, tensor<1x1xi64> -> tensor<1x1x8xf32>
// CHECK: quench.append %[[ROWS]] to %[[K]] at %[[PAST]] keys : tensor<1x1x8xf32>, memref<2x?x4x16xf32>
// CHECK: quench.append %{{.*}} to %[[V]] at %[[PAST]] : tensor<1x1x8xf32>, memref<2x?x4xf32>
// CHECK: %[[TOTAL:.*]] = arith.addi %[[PAST]], %[[C1]]
// CHECK: quench.attention %{{.*}}, %[[K]], %[[V]] length(%[[TOTAL]]) {causal,
// CHECK-NOT: quench.last_rows
// CHECK-NOT: {{tensor<[^>]*[?]}}
// CHECK: return %{{.*}} : tensor<1x1x32xf32>

// CHECK: func.func @prefill(%[[IDS:.*]]: tensor<1x?xi64> {quench.dims = ["1", "sequence"], quench.name = "input_ids"},
// CHECK-SAME: -> (tensor<1x?x32xf32> {quench.dims = ["1", "keep", "32"], quench.name = "logits"})
// CHECK-DAG: %[[SEQ:.*]] = quench.dim "sequence"
// CHECK-DAG: %[[KEEP:.*]] = quench.dim "keep"
// CHECK: tensor.empty(%[[SEQ]]) : tensor<1x?xi64>
// CHECK: tensor.expand_shape %{{.*}} output_shape [1, %[[SEQ]], 8] : tensor<?x8xf32> into tensor<1x?x8xf32>
// CHECK: %[[SUM:.*]] = arith.addf
// CHECK: %[[LAST:.*]] = quench.last_rows %[[SUM]], %[[KEEP]] : tensor<1x?x8xf32> -> tensor<1x?x8xf32>
// CHECK: %[[NORM:.*]] = quench.norm "rms" %[[LAST]]
// CHECK: quench.quantize %[[NORM]] using "rtn" : tensor<1x?x8xf32> -> <1x?x8, "int<8>">
// CHECK: return %{{.*}} : tensor<1x?x32xf32>
module {
  quench.initializer @table source(dense<1.0> : tensor<32x8xf32>) : tensor<32x8xf32>
  quench.initializer @w source(dense<1.0> : tensor<8x8xf32>) : tensor<8x8xf32>
  func.func @main(
      %ids: tensor<?x?xi64> {quench.name = "input_ids", quench.dims = ["batch", "seq"]},
      %mask: tensor<?x?xi64> {quench.name = "attention_mask", quench.dims = ["batch", "past_seq + seq"]},
      %positions: tensor<?x?xi64> {quench.name = "position_ids", quench.dims = ["batch", "seq"]},
      %past_k: tensor<?x2x?x4xf32> {quench.name = "past.0.key", quench.dims = ["batch", "2", "past_seq", "4"]},
      %past_v: tensor<?x2x?x4xf32> {quench.name = "past.0.value", quench.dims = ["batch", "2", "past_seq", "4"]})
      -> (tensor<?x?x32xf32> {quench.name = "logits"}, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>)
      attributes {quench.limits = {"past_seq + seq" = 64 : i64}} {
    %batch = quench.dim "batch"
    %seq = quench.dim "seq"
    %table = quench.weight @table : tensor<32x8xf32>
    %w = quench.weight @w : tensor<8x8xf32>
    %x = quench.embedding %ids, %table : (tensor<?x?xi64>, tensor<32x8xf32>) -> tensor<?x?x8xf32>
    %q0 = quench.linear %x, %w {role = "q"} : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %k0 = quench.linear %x, %w {role = "k"} : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %v0 = quench.linear %x, %w {role = "v"} : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %q = quench.rotary %q0 at %positions {head_size = 4 : i64, frequencies = array<f32: 1.0, 0.1>} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
    %k = quench.rotary %k0 at %positions {head_size = 4 : i64, frequencies = array<f32: 1.0, 0.1>} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
    %keys = quench.extend %past_k, %k : tensor<?x2x?x4xf32>, tensor<?x?x8xf32> -> tensor<?x2x?x4xf32>
    %values = quench.extend %past_v, %v0 : tensor<?x2x?x4xf32>, tensor<?x?x8xf32> -> tensor<?x2x?x4xf32>
    %a = quench.attention %q, %keys, %values keep(%mask : tensor<?x?xi64>) {heads = 2 : i64, kv_heads = 2 : i64, scale = 0.5 : f32, causal}
        : tensor<?x?x8xf32>, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32> -> tensor<?x?x8xf32>
    // Through rows without a batch, and by linalg.
    %n = arith.muli %batch, %seq : index
    %flat = tensor.collapse_shape %a [[0, 1], [2]] : tensor<?x?x8xf32> into tensor<?x8xf32>
    %o0 = quench.linear %flat, %w {role = "o"} : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
    %empty0 = tensor.empty(%n) : tensor<?x8xf32>
    %o1 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
        ins(%o0 : tensor<?x8xf32>) outs(%empty0 : tensor<?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %e = math.exp %in : f32
      linalg.yield %e : f32
    } -> tensor<?x8xf32>
    %o = tensor.expand_shape %o1 [[0, 1], [2]] output_shape [%batch, %seq, 8] : tensor<?x8xf32> into tensor<?x?x8xf32>
    %y = arith.addf %x, %o : tensor<?x?x8xf32>
    %norm = quench.norm "rms" %y {epsilon = 1.0e-5 : f32} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %rounded = quench.quantize %norm using "rtn" : tensor<?x?x8xf32> -> !quench.tensor<?x?x8, "int<8>">
    %head = quench.linear %rounded, %table {role = "head"} : (!quench.tensor<?x?x8, "int<8>">, tensor<32x8xf32>) -> tensor<?x?x32xf32>
    %empty1 = tensor.empty(%batch, %seq) : tensor<?x?x32xf32>
    %logits = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]}
        ins(%head : tensor<?x?x32xf32>) outs(%empty1 : tensor<?x?x32xf32>) {
    ^bb0(%in: f32, %out: f32):
      %e = math.tanh %in : f32
      linalg.yield %e : f32
    } -> tensor<?x?x32xf32>
    return %logits, %keys, %values : tensor<?x?x32xf32>, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>
  }
}

// -----

// A model without caches: nothing is said.

// CHECK-LABEL: func.func @main(%arg0: tensor<?xf32>)
// CHECK-NOT: @decode
module {
  func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
    return %x : tensor<?xf32>
  }
}

// -----

module {
  // expected-remark @+1 {{no state is made: cache 'past.0.key' has other readers than one quench.extend}}
  func.func @main(%ids: tensor<?x?xi64> {quench.name = "input_ids", quench.dims = ["batch", "seq"]},
      %past_k: tensor<?x2x?x4xf32> {quench.name = "past.0.key", quench.dims = ["batch", "2", "past", "4"]}, %rows: tensor<?x?x8xf32>)
      -> (tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) {
    %keys = quench.extend %past_k, %rows : tensor<?x2x?x4xf32>, tensor<?x?x8xf32> -> tensor<?x2x?x4xf32>
    %other = arith.negf %past_k : tensor<?x2x?x4xf32>
    return %keys, %other : tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>
  }
}

// -----

module {
  // expected-remark @+1 {{no state is made: cache 'past.0.key' is no tensor<?xHx?xDxf32> with known H and D}}
  func.func @main(%past_k: tensor<?x2x?x4xf16> {quench.name = "past.0.key"}, %rows: tensor<?x?x8xf16>) -> tensor<?x2x?x4xf16> {
    %keys = quench.extend %past_k, %rows : tensor<?x2x?x4xf16>, tensor<?x?x8xf16> -> tensor<?x2x?x4xf16>
    return %keys : tensor<?x2x?x4xf16>
  }
}

// -----

module {
  func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
    return %x : tensor<?xf32>
  }
  // expected-error @+1 {{is there already: @decode is the name of a function that is to be made}}
  func.func @decode() {
    return
  }
}

// -----

// A function of another name is none of the model's.

// expected-error @+1 {{has no function @main with a body}}
module {
  func.func private @other()
}
