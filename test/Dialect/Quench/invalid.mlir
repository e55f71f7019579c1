// RUN: quench-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{C1: the type is a tensor of static shape, found 'tensor<?xf32>'}}
quench.initializer @dynamic source(#quench.section<0, 4>) : tensor<?xf32>

// -----

// expected-error@+1 {{C1: the type is a tensor of static shape, found 'f32'}}
quench.initializer @scalar source(#quench.section<0, 4>) : f32

// -----

// expected-error@+1 {{C1: the source has 12 bytes, the type needs 16}}
quench.initializer @short source(#quench.file<"m.data", 0, 12>) : tensor<4xf32>

// -----

// expected-error@+1 {{C1: the source has 1 bytes, the type needs 2}}
quench.initializer @bits source(#quench.section<0, 1>) : tensor<2xi1>

// -----

// expected-error@+1 {{C1: the source has type 'tensor<2xf32>', the initializer 'tensor<4xf32>'}}
quench.initializer @other source(dense<0.0> : tensor<2xf32>) : tensor<4xf32>

// -----

// expected-error@+1 {{C1: the source is a file, a section or elements, found "m.data"}}
quench.initializer @text source("m.data") : tensor<4xf32>

// -----

// expected-error@+1 {{C1: elements are integers or floats, found 'tensor<4xcomplex<f32>>'}}
quench.initializer @complex source(#quench.section<0, 32>) : tensor<4xcomplex<f32>>

// -----

func.func @no_map(%x: tensor<4xf32>) {
  // expected-error@+1 {{needs a map attribute, found 3 : i64}}
  %0 = quench.map 3 %x axis(0) : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @no_axis(%x: tensor<4xf32>) {
  // expected-error@+1 {{C1: axis 1 of a tensor of rank 1}}
  %0 = quench.map #quench.hadamard<4> %x axis(1) : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @negative_axis(%x: tensor<4xf32>) {
  // expected-error@+1 {{C1: axis -1 of a tensor of rank 1}}
  %0 = quench.map #quench.hadamard<4> %x axis(-1) : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @wrong_width(%x: tensor<?x8xf32>) {
  // expected-error@+1 {{C1: the map takes 4 numbers, axis 1 has 8}}
  %0 = quench.map #quench.hadamard<4> %x axis(1) : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @wrong_result(%x: tensor<?x4xf32>) {
  // expected-error@+1 {{C1: the map gives 4 numbers, the result is 'tensor<?x8xf32>'}}
  %0 = quench.map #quench.hadamard<4> %x axis(1) : tensor<?x4xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @both_forms(%x: tensor<4xf32>, %y: memref<4xf32>) {
  // expected-error@+1 {{has either a result (tensor form) or outs (buffer form), found both}}
  %0 = quench.map #quench.hadamard<4> %x axis(0) outs(%y : memref<4xf32>) : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @no_form(%x: memref<?x4xf32>) {
  // expected-error@+1 {{has either a result (tensor form) or outs (buffer form), found neither}}
  quench.norm "rms" %x {epsilon = 0.0 : f32} : memref<?x4xf32>
  return
}

// -----

// No construction is known for 92; the message says what there is.
// expected-error@+1 {{92}}
func.func private @order() attributes {map = #quench.hadamard<92>}

// -----

// expected-error@+1 {{3}}
func.func private @block() attributes {map = #quench.hadamard<12, block = 3>}

// -----

// expected-error@+1 {{a product of maps has at least two factors, found 1}}
func.func private @one() attributes {map = #quench.product<[#quench.signs<4, seed = 1>]>}

// -----

// expected-error@+1 {{factor 3 : i64 is not a map}}
func.func private @factor() attributes {map = #quench.product<[#quench.signs<4, seed = 1>, 3]>}

// -----

// expected-error@+1 {{takes 8 numbers, the one before it gives 4}}
func.func private @sizes() attributes {map = #quench.product<[#quench.signs<4, seed = 1>, #quench.hadamard<8>]>}

// -----

// expected-error@+1 {{int<99>}}
func.func private @format() attributes {format = #quench.format<"int<99>">}

// -----

// expected-error@+1 {{is not canonical, write "int<4, group = 32>"}}
func.func private @spelling() attributes {format = #quench.format<"int<4,group=32>">}

// -----

// expected-error@+1 {{nonsense}}
func.func private @type(!quench.tensor<4x4, "nonsense">)

// -----

func.func @quantize(%x: tensor<4x32xf32>) {
  // expected-error@+1 {{changes the shape from 'tensor<4x32xf32>' to '!quench.tensor<8x32, "int<4, group = 32>">'}}
  %0 = quench.quantize %x using "rtn" : tensor<4x32xf32> -> !quench.tensor<8x32, "int<4, group = 32>">
  return
}

// -----

func.func @weight_rank(%x: tensor<?x4xf32>, %w: tensor<2x8x4xf32>) {
  // expected-error@+1 {{C1: the weight has rank 2, found 'tensor<2x8x4xf32>'}}
  %0 = quench.linear %x, %w : (tensor<?x4xf32>, tensor<2x8x4xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_in(%x: tensor<?x3xf32>, %w: tensor<8x4xf32>) {
  // expected-error@+1 {{C2: x ends in 'tensor<?x3xf32>', the weight is 'tensor<8x4xf32>'}}
  %0 = quench.linear %x, %w : (tensor<?x3xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_out(%x: tensor<?x4xf32>, %w: tensor<8x4xf32>) {
  // expected-error@+1 {{C2: the result is 'tensor<?x4xf32>', the weight 'tensor<8x4xf32>'}}
  %0 = quench.linear %x, %w : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @linear_bias(%x: tensor<?x4xf32>, %w: tensor<8x4xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{C3: the bias has 8 numbers, found 'tensor<4xf32>'}}
  %0 = quench.linear %x, %w bias(%b : tensor<4xf32>) : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @norm_kind(%x: tensor<?x4xf32>) {
  // expected-error@+1 {{kind is "rms" or "layer", found "batch"}}
  %0 = quench.norm "batch" %x {epsilon = 0.0 : f32} : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @rotary_rank(%x: tensor<?x8xf32>, %p: tensor<?x?xi64>) {
  // expected-error@+1 {{x is [batch, sequence, heads * head_size], found 'tensor<?x8xf32>'}}
  %0 = quench.rotary %x at %p {head_size = 4 : i64, frequencies = array<f32: 1.0>} : tensor<?x8xf32>, tensor<?x?xi64> -> tensor<?x8xf32>
  return
}

// -----

func.func @rotary_heads(%x: tensor<?x?x8xf32>, %p: tensor<?x?xi64>) {
  // expected-error@+1 {{the last dimension of 'tensor<?x?x8xf32>' is no multiple of the head size 3}}
  %0 = quench.rotary %x at %p {head_size = 3 : i64, frequencies = array<f32: 1.0>} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  return
}

// -----

func.func @rotary_no_head(%x: tensor<?x?x8xf32>, %p: tensor<?x?xi64>) {
  // expected-error@+1 {{is no multiple of the head size 0}}
  %0 = quench.rotary %x at %p {head_size = 0 : i64, frequencies = array<f32>} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  return
}

// -----

func.func @rotary_frequencies(%x: tensor<?x?x8xf32>, %p: tensor<?x?xi64>) {
  // expected-error@+1 {{has 3 frequencies, at most half the head size 4}}
  %0 = quench.rotary %x at %p {head_size = 4 : i64, frequencies = array<f32: 1.0, 1.0, 1.0>} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  return
}

// -----

func.func @rotary_pairs(%x: tensor<?x?x8xf32>, %p: tensor<?x?xi64>) {
  // expected-error@+1 {{pairs are "half" or "adjacent", found "both"}}
  %0 = quench.rotary %x at %p {head_size = 4 : i64, frequencies = array<f32: 1.0>, pairs = "both"} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  return
}

// -----

func.func @attention_heads(%q: tensor<?x?x6xf32>) {
  // expected-error@+1 {{heads (3) are a multiple of kv_heads (2)}}
  %0 = quench.attention %q, %q, %q {heads = 3 : i64, kv_heads = 2 : i64, scale = 1.0 : f32} : tensor<?x?x6xf32>, tensor<?x?x6xf32>, tensor<?x?x6xf32> -> tensor<?x?x6xf32>
  return
}

// -----

func.func @attention_query(%q: tensor<?x?x7xf32>) {
  // expected-error@+1 {{query is [batch, sequence, heads * D], found 'tensor<?x?x7xf32>'}}
  %0 = quench.attention %q, %q, %q {heads = 2 : i64, kv_heads = 2 : i64, scale = 1.0 : f32} : tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32> -> tensor<?x?x7xf32>
  return
}

// -----

func.func @attention_key(%q: tensor<?x?x6xf32>, %k: tensor<?x6xf32>) {
  // expected-error@+1 {{key and value are [batch, total, kv_heads * D] or [batch, kv_heads, total, D], found 'tensor<?x6xf32>'}}
  %0 = quench.attention %q, %k, %q {heads = 2 : i64, kv_heads = 2 : i64, scale = 1.0 : f32} : tensor<?x?x6xf32>, tensor<?x6xf32>, tensor<?x?x6xf32> -> tensor<?x?x6xf32>
  return
}

// -----

func.func @no_initializer() {
  // expected-error@+1 {{C1: @gone is no quench.initializer}}
  %0 = quench.weight @gone : tensor<4xf32>
  return
}

// -----

func.func @not_an_initializer() {
  // expected-error@+1 {{C1: @not_an_initializer is no quench.initializer}}
  %0 = quench.weight @not_an_initializer : tensor<4xf32>
  return
}

// -----

quench.initializer @w source(#quench.section<0, 32>) : tensor<2x4xf32>
func.func @weight_shape() {
  // expected-error@+1 {{C1: has the type 'tensor<4x2xf32>', the initializer is 'tensor<2x4xf32>'}}
  %0 = quench.weight @w : tensor<4x2xf32>
  return
}

// -----

quench.initializer @w source(#quench.section<0, 32>) : tensor<2x4xf32>
func.func @weight_transposed() {
  // expected-error@+1 {{C1: has the type 'tensor<2x4xf32>', the initializer is 'tensor<2x4xf32>', transposed}}
  %0 = quench.weight @w transpose : tensor<2x4xf32>
  return
}

// -----

quench.initializer @w source(#quench.section<0, 16>) : tensor<4xf32>
func.func @weight_vector() {
  // expected-error@+1 {{C1: only tensors of rank 2 or more are transposed, the initializer is 'tensor<4xf32>'}}
  %0 = quench.weight @w transpose : tensor<4xf32>
  return
}

// -----

quench.initializer @w source(#quench.section<0, 16>) : tensor<4xf32>
func.func @weight_element() {
  // expected-error@+1 {{C2: has elements of 'f16', the initializer of 'f32' (f16 and bf16 may be read as f32)}}
  %0 = quench.weight @w : tensor<4xf16>
  return
}

// -----

func.func @assemble_result(%c: tensor<2x4xui8>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C1: the result is [n, k] of floats, found 'tensor<8xf32>'}}
  %0 = quench.assemble codes(%c : tensor<2x4xui8>) scales(%s : tensor<2x2xf32>) {bits = 8 : i64, group = 2 : i64} -> tensor<8xf32>
  return
}

// -----

func.func @assemble_bits(%c: tensor<2x4xui8>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C2: codes have 2, 4 or 8 bits, found 3}}
  %0 = quench.assemble codes(%c : tensor<2x4xui8>) scales(%s : tensor<2x2xf32>) {bits = 3 : i64, group = 2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_group(%c: tensor<2x4xui8>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C2: the group is not negative, found -2}}
  %0 = quench.assemble codes(%c : tensor<2x4xui8>) scales(%s : tensor<2x2xf32>) {bits = 8 : i64, group = -2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_codes(%c: tensor<2x3xui8>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C3: codes are 8 bytes, or 4 if packed, found 'tensor<2x3xui8>'}}
  %0 = quench.assemble codes(%c : tensor<2x3xui8>) scales(%s : tensor<2x2xf32>) {bits = 4 : i64, group = 2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_levels(%c: tensor<2x4xui8>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C6: levels are 16 for codes of 4 bits without zeros, found 2}}
  %0 = quench.assemble codes(%c : tensor<2x4xui8>) scales(%s : tensor<2x2xf32>) {bits = 4 : i64, group = 2 : i64, levels = array<f32: 0.0, 1.0>} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_bytes(%c: tensor<2x4xi32>, %s: tensor<2x2xf32>) {
  // expected-error@+1 {{C3: codes are 8 bytes, or 8 if packed, found 'tensor<2x4xi32>'}}
  %0 = quench.assemble codes(%c : tensor<2x4xi32>) scales(%s : tensor<2x2xf32>) {bits = 8 : i64, group = 2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_scales(%c: tensor<2x4xui8>, %s: tensor<2x3xf32>) {
  // expected-error@+1 {{C4: scales are 4 floats, or 1, found 'tensor<2x3xf32>'}}
  %0 = quench.assemble codes(%c : tensor<2x4xui8>) scales(%s : tensor<2x3xf32>) {bits = 8 : i64, group = 2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @assemble_zeros(%c: tensor<2x2xui8>, %s: tensor<2x2xf32>, %z: tensor<3xui8>) {
  // expected-error@+1 {{C5: zeros are 4 bytes or floats, or 1, or 2 bytes if packed, found 'tensor<3xui8>'}}
  %0 = quench.assemble codes(%c : tensor<2x2xui8>) scales(%s : tensor<2x2xf32>) zeros(%z : tensor<3xui8>) {bits = 4 : i64, group = 2 : i64} -> tensor<2x4xf32>
  return
}

// -----

func.func @embedding_ids(%i: tensor<?xf32>, %t: tensor<8x4xf32>) {
  // expected-error@+1 {{C1: ids are integers, found 'tensor<?xf32>'}}
  %0 = quench.embedding %i, %t : (tensor<?xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @embedding_table(%i: tensor<?xi64>, %t: tensor<4xf32>) {
  // expected-error@+1 {{C2: the table is [vocabulary, width], found 'tensor<4xf32>'}}
  %0 = quench.embedding %i, %t : (tensor<?xi64>, tensor<4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @embedding_width(%i: tensor<?xi64>, %t: tensor<8x4xf32>) {
  // expected-error@+1 {{C3: the result is 'tensor<?x8xf32>', ids are 'tensor<?xi64>', the table is 'tensor<8x4xf32>'}}
  %0 = quench.embedding %i, %t : (tensor<?xi64>, tensor<8x4xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @embedding_rank(%i: tensor<2x3xi64>, %t: tensor<8x4xf32>) {
  // expected-error@+1 {{C3: the result is 'tensor<6x4xf32>', ids are 'tensor<2x3xi64>', the table is 'tensor<8x4xf32>'}}
  %0 = quench.embedding %i, %t : (tensor<2x3xi64>, tensor<8x4xf32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @extend_past(%p: tensor<1x?x8xf32>, %r: tensor<1x?x8xf32>) {
  // expected-error@+1 {{C1: past is [batch, kv_heads, P, D], found 'tensor<1x?x8xf32>'}}
  %0 = quench.extend %p, %r : tensor<1x?x8xf32>, tensor<1x?x8xf32> -> tensor<1x?x8xf32>
  return
}

// -----

func.func @extend_rows(%p: tensor<1x2x?x4xf32>, %r: tensor<1x?x4xf32>) {
  // expected-error@+1 {{C2: rows are [batch, S, kv_heads * D] of past 'tensor<1x2x?x4xf32>', found 'tensor<1x?x4xf32>'}}
  %0 = quench.extend %p, %r : tensor<1x2x?x4xf32>, tensor<1x?x4xf32> -> tensor<1x2x?x4xf32>
  return
}

// -----

func.func @extend_result(%p: tensor<1x2x3x4xf32>, %r: tensor<1x1x8xf32>) {
  // expected-error@+1 {{C3: the result is [batch, kv_heads, P + S, D], found 'tensor<1x2x3x4xf32>' of 'tensor<1x2x3x4xf32>' and 'tensor<1x1x8xf32>'}}
  %0 = quench.extend %p, %r : tensor<1x2x3x4xf32>, tensor<1x1x8xf32> -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @extend_form(%p: tensor<1x2x?x4xf32>, %r: tensor<1x?x8xf32>) {
  // expected-error@+1 {{has either a result (tensor form) or outs (buffer form), found neither}}
  quench.extend %p, %r : tensor<1x2x?x4xf32>, tensor<1x?x8xf32>
  return
}

// -----

func.func @append_rows(%r: tensor<2x1x8xf32>, %c: memref<2x64x4xf32>, %p: index) {
  // expected-error@+1 {{C1: rows are [1, S, kv_heads * D], found 'tensor<2x1x8xf32>'}}
  quench.append %r to %c at %p : tensor<2x1x8xf32>, memref<2x64x4xf32>
  return
}

// -----

func.func @append_keys(%r: tensor<1x1x8xf32>, %c: memref<2x64x4xf32>, %p: index) {
  // expected-error@+1 {{C2: a cache of keys is [kv_heads, capacity / 16, D, 16], found 'memref<2x64x4xf32>'}}
  quench.append %r to %c at %p keys : tensor<1x1x8xf32>, memref<2x64x4xf32>
  return
}

// -----

func.func @append_tile(%r: tensor<1x1x8xf32>, %c: memref<2x8x4x8xf32>, %p: index) {
  // expected-error@+1 {{C2: a cache of keys is [kv_heads, capacity / 16, D, 16], found 'memref<2x8x4x8xf32>'}}
  quench.append %r to %c at %p keys : tensor<1x1x8xf32>, memref<2x8x4x8xf32>
  return
}

// -----

func.func @append_values(%r: tensor<1x1x8xf32>, %c: memref<2x4x4x16xf32>, %p: index) {
  // expected-error@+1 {{C2: a cache of values is [kv_heads, capacity, D], found 'memref<2x4x4x16xf32>'}}
  quench.append %r to %c at %p : tensor<1x1x8xf32>, memref<2x4x4x16xf32>
  return
}

// -----

func.func @append_width(%r: tensor<1x1x6xf32>, %c: memref<2x?x4x16xf32>, %p: index) {
  // expected-error@+1 {{C3: rows have kv_heads * D = 8 numbers, found 'tensor<1x1x6xf32>'}}
  quench.append %r to %c at %p keys : tensor<1x1x6xf32>, memref<2x?x4x16xf32>
  return
}

// -----

func.func @append_capacity(%r: tensor<1x1x8xf32>, %c: memref<2x6x4x16xf32>, %p: index) {
  // expected-error@+1 {{C4: the capacity is a multiple of 64, found 96}}
  quench.append %r to %c at %p keys : tensor<1x1x8xf32>, memref<2x6x4x16xf32>
  return
}
