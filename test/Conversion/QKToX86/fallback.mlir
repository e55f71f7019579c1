// What the features do not cover is lowered op by op to plain vectors.
// RUN: quench-opt %s --convert-qk-to-x86=features=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni | FileCheck %s
// RUN: quench-opt %s --convert-qk-to-x86=features=+avx2 | FileCheck %s --check-prefix=NONE

// CHECK-LABEL: func.func @ops
// NONE-LABEL: func.func @ops
func.func @ops(%acc : vector<16xi32>, %v : vector<64xi8>, %x : i32) -> (vector<16xi32>, vector<64xi8>) {
  // CHECK: vector.gather
  // NONE: vector.gather
  %t = qk.lookup %v, dense<1> : tensor<32xi8>, vector<64xi8> -> vector<64xi8>
  // CHECK: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
  // NONE-NOT: llvm.call_intrinsic
  // NONE: arith.muli
  %a = qk.dot4 %acc, %t, %x : vector<16xi32>, vector<64xi8>
  // CHECK-NOT: llvm.x86.vgf2p8affineqb
  // CHECK: arith.shrsi
  %b = qk.affine %v rows [255, 1, 2, 4, 8, 16, 32, 64] constant 35 : vector<64xi8>
  return %a, %b : vector<16xi32>, vector<64xi8>
}
