// RUN: quench-opt %s | quench-opt | FileCheck %s
// RUN: quench-opt %s --mlir-print-op-generic | quench-opt | FileCheck %s
// RUN: quench-opt %s --emit-bytecode | quench-opt | FileCheck %s

// CHECK: quench.initializer @w source(#quench.file<"model.onnx.data", 4096, 128>) : tensor<8x4xf32>
quench.initializer @w source(#quench.file<"model.onnx.data", 4096, 128>) : tensor<8x4xf32>
// CHECK: quench.initializer @s source(#quench.section<64, 16>) : tensor<4xf32>
quench.initializer @s source(#quench.section<64, 16>) : tensor<4xf32>
// CHECK: quench.initializer @few source(dense<[1, 0, 3, 2]> : tensor<4xi32>) : tensor<4xi32>
quench.initializer @few source(dense<[1, 0, 3, 2]> : tensor<4xi32>) : tensor<4xi32>
quench.initializer @half source(#quench.file<"model.onnx.data", 0, 64>) : tensor<8x4xf16>
quench.initializer @codes source(#quench.file<"model.onnx.data", 0, 16>) : tensor<8x2xui8>
quench.initializer @scales source(#quench.file<"model.onnx.data", 0, 32>) : tensor<8x1xf32>
quench.initializer @zeros source(#quench.file<"model.onnx.data", 0, 8>) : tensor<8x1xui8>

// CHECK-LABEL: func.func @weights
func.func @weights() -> (tensor<4x8xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>) {
  // CHECK: quench.weight @w transpose : tensor<4x8xf32>
  %t = quench.weight @w transpose : tensor<4x8xf32>
  // CHECK: quench.weight @w : tensor<8x4xf32>
  %w = quench.weight @w : tensor<8x4xf32>
  // CHECK: quench.weight @half : tensor<8x4xf32>
  %h = quench.weight @half : tensor<8x4xf32>
  // CHECK: quench.quantize %{{.*}} using "rtn" : tensor<8x4xf32> -> <8x4, "int<4, group = 32>">
  %q = quench.quantize %w using "rtn" : tensor<8x4xf32> -> !quench.tensor<8x4, "int<4, group = 32>">
  // CHECK: quench.dequantize %{{.*}} : <8x4, "int<4, group = 32>"> -> tensor<8x4xf32>
  %d = quench.dequantize %q : !quench.tensor<8x4, "int<4, group = 32>"> -> tensor<8x4xf32>
  %codes = quench.weight @codes : tensor<8x2xui8>
  %scales = quench.weight @scales : tensor<8x1xf32>
  %zeros = quench.weight @zeros : tensor<8x1xui8>
  // CHECK: quench.assemble codes(%{{.*}} : tensor<8x2xui8>) scales(%{{.*}} : tensor<8x1xf32>) zeros(%{{.*}} : tensor<8x1xui8>) {bits = 4 : i64, group = 16 : i64} -> tensor<8x4xf32>
  %a = quench.assemble codes(%codes : tensor<8x2xui8>) scales(%scales : tensor<8x1xf32>) zeros(%zeros : tensor<8x1xui8>) {bits = 4 : i64, group = 16 : i64} -> tensor<8x4xf32>
  return %t, %h, %d, %a : tensor<4x8xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>
}

// CHECK-LABEL: func.func @maps
func.func @maps(%x: tensor<?x12xf32>, %y: tensor<4x?xf32>) {
  // CHECK: quench.map #quench.signs<12, seed = 18446744073709551615> %{{.*}} axis(1)
  %0 = quench.map #quench.signs<12, seed = 18446744073709551615> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.hadamard<12> %
  %1 = quench.map #quench.hadamard<12> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.hadamard<12, transpose = true> %
  %2 = quench.map #quench.hadamard<12, transpose = true> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.hadamard<12, block = 4> %
  %3 = quench.map #quench.hadamard<12, block = 4> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.diag<@s, 4> %{{.*}} axis(0)
  %4 = quench.map #quench.diag<@s, 4> %y axis(0) : tensor<4x?xf32> -> tensor<4x?xf32>
  // CHECK: quench.map #quench.diag<@s, 4, inverted = true>
  %5 = quench.map #quench.diag<@s, 4, inverted = true> %y axis(0) : tensor<4x?xf32> -> tensor<4x?xf32>
  // CHECK: quench.map #quench.permute<@few, 4>
  %6 = quench.map #quench.permute<@few, 4> %y axis(0) : tensor<4x?xf32> -> tensor<4x?xf32>
  // CHECK: quench.map #quench.permute<@few, 4, inverted = true>
  %7 = quench.map #quench.permute<@few, 4, inverted = true> %y axis(0) : tensor<4x?xf32> -> tensor<4x?xf32>
  // CHECK: quench.map #quench.dense<@w, 12>
  %8 = quench.map #quench.dense<@w, 12> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.dense<@w, 12, orthogonal = true, transpose = true>
  %9 = quench.map #quench.dense<@w, 12, orthogonal = true, transpose = true> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.dense<@w, 12, inverted = true>
  %10 = quench.map #quench.dense<@w, 12, inverted = true> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.block_diag<@w, 12, block = 4, transpose = true>
  %11 = quench.map #quench.block_diag<@w, 12, block = 4, transpose = true> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  // CHECK: quench.map #quench.product<[#quench.hadamard<12, transpose = true>, #quench.signs<12, seed = 1>]>
  %12 = quench.map #quench.product<[#quench.hadamard<12, transpose = true>, #quench.signs<12, seed = 1>]> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  return
}

// CHECK-LABEL: func.func @layers
func.func @layers(%ids: tensor<?x?xi64>, %table: tensor<9x8xf32>, %wide: tensor<8x8xf32>, %g: tensor<8xf32>, %past: tensor<?x1x?x4xf32>, %keep: tensor<?x?xi64>, %score: tensor<1x1x?x?xf32>, %n: index) -> tensor<?x?x8xf32> {
  // CHECK: quench.embedding %{{.*}}, %{{.*}} : (tensor<?x?xi64>, tensor<9x8xf32>) -> tensor<?x?x8xf32>
  %h = quench.embedding %ids, %table : (tensor<?x?xi64>, tensor<9x8xf32>) -> tensor<?x?x8xf32>
  // CHECK: quench.norm "rms" %{{.*}} gain(%{{.*}} : tensor<8xf32>) {epsilon = 9.99999974E-6 : f32} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  %0 = quench.norm "rms" %h gain(%g : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  // CHECK: quench.norm "layer" %{{.*}} gain(%{{.*}} : tensor<8xf32>) bias(%{{.*}} : tensor<8xf32>)
  %1 = quench.norm "layer" %0 gain(%g : tensor<8xf32>) bias(%g : tensor<8xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  // CHECK: quench.linear %{{.*}}, %{{.*}} bias(%{{.*}} : tensor<8xf32>) {block = 3 : i64, role = "q"} : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
  %q = quench.linear %1, %wide bias(%g : tensor<8xf32>) {role = "q", block = 3 : i64} : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
  %v = tensor.extract_slice %table[0, 0] [4, 8] [1, 1] : tensor<9x8xf32> to tensor<4x8xf32>
  // CHECK: quench.linear %{{.*}}, %{{[a-z0-9_]*}} : (tensor<?x?x8xf32>, tensor<4x8xf32>) -> tensor<?x?x4xf32>
  %k = quench.linear %1, %v : (tensor<?x?x8xf32>, tensor<4x8xf32>) -> tensor<?x?x4xf32>
  // CHECK: quench.rotary %{{.*}} at %{{.*}} {frequencies = array<f32: 1.000000e+00>, head_size = 4 : i64, pairs = "adjacent"} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  %r = quench.rotary %q at %ids {head_size = 4 : i64, frequencies = array<f32: 1.0>, pairs = "adjacent"} : tensor<?x?x8xf32>, tensor<?x?xi64> -> tensor<?x?x8xf32>
  // CHECK: quench.extend %{{.*}}, %{{.*}} : tensor<?x1x?x4xf32>, tensor<?x?x4xf32> -> tensor<?x1x?x4xf32>
  %e = quench.extend %past, %k : tensor<?x1x?x4xf32>, tensor<?x?x4xf32> -> tensor<?x1x?x4xf32>
  // CHECK: quench.attention %{{.*}}, %{{.*}}, %{{.*}} keep(%{{.*}} : tensor<?x?xi64>) bias(%{{.*}} : tensor<1x1x?x?xf32>) {causal, heads = 2 : i64, kv_heads = 1 : i64, scale = 5.000000e-01 : f32, soft_cap = 3.000000e+01 : f32, window = 16 : i64}
  %a = quench.attention %r, %e, %e keep(%keep : tensor<?x?xi64>) bias(%score : tensor<1x1x?x?xf32>) {heads = 2 : i64, kv_heads = 1 : i64, scale = 0.5 : f32, causal, window = 16 : i64, soft_cap = 30.0 : f32} : tensor<?x?x8xf32>, tensor<?x1x?x4xf32>, tensor<?x1x?x4xf32> -> tensor<?x?x8xf32>
  // CHECK: quench.last_rows %{{.*}}, %{{.*}} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  %l = quench.last_rows %a, %n : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  return %l : tensor<?x?x8xf32>
}

// CHECK-LABEL: func.func @staged
func.func @staged(%x: tensor<?x32xf32>, %ids: tensor<?xi64>, %rows: index) -> (tensor<?x16xf32>, tensor<?x32xf32>) {
  // CHECK: quench.dim "sequence_length"
  %s = quench.dim "sequence_length"
  // CHECK: quench.packed <0, 320> : tensor<320xi8>
  %w = quench.packed <0, 320> : tensor<320xi8>
  // CHECK: quench.stage %{{.*}} for <"int<4, group = 32>"> integer : tensor<?x32xf32> -> tensor<?x8xi32>, tensor<?xf32>, tensor<?x1xi32>
  %c, %d, %e = quench.stage %x for <"int<4, group = 32>"> integer : tensor<?x32xf32> -> tensor<?x8xi32>, tensor<?xf32>, tensor<?x1xi32>
  // CHECK: quench.contract %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} rows(%{{.*}}) for <"int<4, group = 32>"> integer {k = 32 : i64, n = 16 : i64}
  %y = quench.contract %c, %d, %e, %w rows(%rows) for <"int<4, group = 32>"> integer {n = 16 : i64, k = 32 : i64} : tensor<?x8xi32>, tensor<?xf32>, tensor<?x1xi32>, tensor<320xi8> -> tensor<?x16xf32>
  // CHECK: quench.lookup_rows %{{.*}}, %{{.*}} for <"int<4, group = 32>"> {k = 32 : i64, n = 16 : i64} : tensor<?xi64>, tensor<320xi8> -> tensor<?x32xf32>
  %z = quench.lookup_rows %ids, %w for <"int<4, group = 32>"> {n = 16 : i64, k = 32 : i64} : tensor<?xi64>, tensor<320xi8> -> tensor<?x32xf32>
  return %y, %z : tensor<?x16xf32>, tensor<?x32xf32>
}

// The form that bufferization makes.
// CHECK-LABEL: func.func @buffers
func.func @buffers(%x: memref<?x8xf32>, %y: memref<?x8xf32>, %g: memref<8xf32>, %x3: memref<1x?x8xf32>, %cache: memref<2x64x4xf32>, %keys: memref<2x4x4x16xf32>, %p: index) {
  // CHECK: quench.norm "rms" %{{.*}} gain(%{{.*}} : memref<8xf32>) outs(%{{.*}} : memref<?x8xf32>) {epsilon = 0.000000e+00 : f32} : memref<?x8xf32>
  quench.norm "rms" %x gain(%g : memref<8xf32>) outs(%y : memref<?x8xf32>) {epsilon = 0.0 : f32} : memref<?x8xf32>
  // CHECK: quench.map #quench.hadamard<8> %{{.*}} axis(1) outs(%{{.*}} : memref<?x8xf32>) : memref<?x8xf32>
  quench.map #quench.hadamard<8> %x axis(1) outs(%y : memref<?x8xf32>) : memref<?x8xf32>
  // CHECK: quench.append %{{.*}} to %{{.*}} at %{{.*}} : memref<1x?x8xf32>, memref<2x64x4xf32>
  quench.append %x3 to %cache at %p : memref<1x?x8xf32>, memref<2x64x4xf32>
  // CHECK: quench.append %{{.*}} to %{{.*}} at %{{.*}} keys : memref<1x?x8xf32>, memref<2x4x4x16xf32>
  quench.append %x3 to %keys at %p keys : memref<1x?x8xf32>, memref<2x4x4x16xf32>
  // CHECK: quench.barrier
  quench.barrier
  return
}
