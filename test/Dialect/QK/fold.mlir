// RUN: quench-opt %s --canonicalize | FileCheck %s

// CHECK-LABEL: func.func @field
// CHECK: arith.constant dense<[15, 0, 10, 5]>
// CHECK-NOT: qk.field
func.func @field() -> vector<4xi8> {
  %c = arith.constant dense<[-1, 7, -85, 90]> : vector<4xi8>
  %a = qk.field %c off 4 width 4 at 0 : vector<4xi8>
  return %a : vector<4xi8>
}

// CHECK-LABEL: func.func @whole
// CHECK-SAME: (%[[V:.*]]: vector<4xi8>)
// CHECK: return %[[V]]
func.func @whole(%v : vector<4xi8>) -> vector<4xi8> {
  %a = qk.field %v off 0 width 8 at 0 : vector<4xi8>
  return %a : vector<4xi8>
}

// High bits of an index are ignored.
// CHECK-LABEL: func.func @lookup
// CHECK: arith.constant dense<[10, 13, 13, 25]>
func.func @lookup() -> vector<4xi8> {
  %c = arith.constant dense<[0, 3, 19, -1]> : vector<4xi8>
  %a = qk.lookup %c, dense<[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]> : tensor<16xi8>, vector<4xi8> -> vector<4xi8>
  return %a : vector<4xi8>
}

// Parity of 3 is even, of 7 odd; the constant flips bit 7.
// CHECK-LABEL: func.func @affine
// CHECK: arith.constant dense<[-128, -127]>
func.func @affine() -> vector<2xi8> {
  %c = arith.constant dense<[3, 7]> : vector<2xi8>
  %a = qk.affine %c rows [255, 0, 0, 0, 0, 0, 0, 0] constant 128 : vector<2xi8>
  return %a : vector<2xi8>
}
