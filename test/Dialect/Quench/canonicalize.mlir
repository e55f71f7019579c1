// RUN: quench-opt %s --canonicalize | FileCheck %s

quench.initializer @w source(#quench.file<"m.data", 0, 576>) : tensor<12x12xf32>
quench.initializer @s source(#quench.file<"m.data", 0, 48>) : tensor<12xf32>

// Maps of one axis become one, in order.
// CHECK-LABEL: func.func @compose
// CHECK: %[[W:.*]] = quench.weight @w
// CHECK: %[[M:.*]] = quench.map #quench.product<[#quench.diag<@s, 12>, #quench.signs<12, seed = 3>, #quench.hadamard<12>]> %[[W]] axis(1)
// CHECK: return %[[M]]
func.func @compose() -> tensor<12x12xf32> {
  %w = quench.weight @w : tensor<12x12xf32>
  %0 = quench.map #quench.diag<@s, 12> %w axis(1) : tensor<12x12xf32> -> tensor<12x12xf32>
  %1 = quench.map #quench.product<[#quench.signs<12, seed = 3>, #quench.hadamard<12>]> %0 axis(1) : tensor<12x12xf32> -> tensor<12x12xf32>
  return %1 : tensor<12x12xf32>
}

// A map and its inverse go; so do parts of products.
// CHECK-LABEL: func.func @cancel
// CHECK-SAME: %[[X:.*]]: tensor<?x12xf32>
// CHECK-NOT: quench.map
// CHECK: return %[[X]]
func.func @cancel(%x: tensor<?x12xf32>) -> tensor<?x12xf32> {
  %0 = quench.map #quench.product<[#quench.signs<12, seed = 3>, #quench.hadamard<12>]> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %1 = quench.map #quench.product<[#quench.hadamard<12, transpose = true>, #quench.signs<12, seed = 3>]> %0 axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %2 = quench.map #quench.diag<@s, 12> %1 axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %3 = quench.map #quench.diag<@s, 12, inverted = true> %2 axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  return %3 : tensor<?x12xf32>
}

// CHECK-LABEL: func.func @cancel_a_part
// CHECK: quench.map #quench.signs<12, seed = 3> %{{.*}} axis(1)
// CHECK-NOT: quench.map
func.func @cancel_a_part(%x: tensor<?x12xf32>) -> tensor<?x12xf32> {
  %0 = quench.map #quench.product<[#quench.signs<12, seed = 3>, #quench.hadamard<12>]> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %1 = quench.map #quench.hadamard<12, transpose = true> %0 axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  return %1 : tensor<?x12xf32>
}

// A matrix of order 12 is not symmetric, twice is not the identity. One of a
// power of two is.
// CHECK-LABEL: func.func @symmetric
// CHECK: quench.map #quench.product<[#quench.hadamard<12>, #quench.hadamard<12>]>
// CHECK-NOT: quench.map
// CHECK: return
func.func @symmetric(%x: tensor<?x12xf32>, %y: tensor<?x16xf32>) -> (tensor<?x12xf32>, tensor<?x16xf32>) {
  %0 = quench.map #quench.hadamard<12> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %1 = quench.map #quench.hadamard<12> %0 axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %2 = quench.map #quench.hadamard<16> %y axis(1) : tensor<?x16xf32> -> tensor<?x16xf32>
  %3 = quench.map #quench.hadamard<16> %2 axis(1) : tensor<?x16xf32> -> tensor<?x16xf32>
  return %1, %3 : tensor<?x12xf32>, tensor<?x16xf32>
}

// Maps of different axes stay two.
// CHECK-LABEL: func.func @axes
// CHECK: quench.map #quench.hadamard<12> %{{.*}} axis(0)
// CHECK: quench.map #quench.hadamard<12, transpose = true> %{{.*}} axis(1)
func.func @axes() -> tensor<12x12xf32> {
  %w = quench.weight @w : tensor<12x12xf32>
  %0 = quench.map #quench.hadamard<12> %w axis(0) : tensor<12x12xf32> -> tensor<12x12xf32>
  %1 = quench.map #quench.hadamard<12, transpose = true> %0 axis(1) : tensor<12x12xf32> -> tensor<12x12xf32>
  return %1 : tensor<12x12xf32>
}

// An online map does not fall into the weight behind it: it was put there with
// its inverse.
// CHECK-LABEL: func.func @on_line
// CHECK: quench.map #quench.hadamard<12> %arg0 axis(1)
// CHECK: quench.map #quench.hadamard<12> %{{.*}} axis(1) : tensor<12x12xf32>
func.func @on_line(%x: tensor<?x12xf32>) -> tensor<?x12xf32> {
  %w = quench.weight @w : tensor<12x12xf32>
  %0 = quench.map #quench.hadamard<12> %x axis(1) : tensor<?x12xf32> -> tensor<?x12xf32>
  %1 = quench.map #quench.hadamard<12> %w axis(1) : tensor<12x12xf32> -> tensor<12x12xf32>
  %2 = quench.linear %0, %1 : (tensor<?x12xf32>, tensor<12x12xf32>) -> tensor<?x12xf32>
  return %2 : tensor<?x12xf32>
}

// Expressions without readers go; a weight is never folded to numbers.
// CHECK-LABEL: func.func @unused
// CHECK-NOT: quench.
func.func @unused() {
  %w = quench.weight @w : tensor<12x12xf32>
  %0 = quench.map #quench.hadamard<12> %w axis(0) : tensor<12x12xf32> -> tensor<12x12xf32>
  %q = quench.quantize %0 using "rtn" : tensor<12x12xf32> -> !quench.tensor<12x12, "int<4, group = 32>">
  return
}
