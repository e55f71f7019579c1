// Any target: no intrinsics of a processor, tables in memory, equal tables once.
// RUN: quench-opt %s --convert-qk-to-generic | FileCheck %s
// RUN: quench-opt %s --convert-qk-to-generic --convert-vector-to-llvm --convert-arith-to-llvm --finalize-memref-to-llvm \
// RUN:   --convert-func-to-llvm --reconcile-unrealized-casts | mlir-translate --mlir-to-llvmir \
// RUN:   | llc -mtriple=aarch64-linux-gnu -o - | FileCheck %s --check-prefix=ARM

// CHECK-COUNT-1: memref.global "private" constant @qk_table_{{.*}} : memref<16xi8>
// CHECK-NOT: memref.global
// CHECK-LABEL: func.func @all
// CHECK-NOT: qk.
// CHECK-NOT: call_intrinsic
// ARM-LABEL: all:
// ARM-NOT: {{bl[[:space:]]}}
// ARM: ret
func.func @all(%acc : vector<16xi32>, %v : vector<64xi8>, %x : i32, %h : vector<32xi16>, %f : vector<16xf32>, %s : f32)
    -> (vector<16xi32>, vector<64xi8>, vector<32xi16>, vector<32xi16>, vector<16xi8>) {
  %a = qk.window %v, %v unit 32 pos [1, 9, 30, 40] width 5 : vector<64xi8>, vector<64xi8>
  %b = qk.field %a off 1 width 3 at 2 : vector<64xi8>
  %c = qk.lookup %b, dense<3> : tensor<16xi8>, vector<64xi8> -> vector<64xi8>
  %d = qk.lookup %a, dense<3> : tensor<16xi8>, vector<64xi8> -> vector<64xi8>
  %e = qk.affine %c rows [255, 1, 2, 4, 8, 16, 32, 64] constant 35 : vector<64xi8>
  %g = qk.dot4 %acc, %d, %x : vector<16xi32>, vector<64xi8>
  %i, %j = qk.add_wide %h, %h, %e : vector<32xi16>, vector<64xi8>
  %k = qk.butterfly %f distance 2 : vector<16xf32>
  %q = qk.quantize %k, %s : vector<16xf32> -> vector<16xi8>
  return %g, %e, %i, %j, %q : vector<16xi32>, vector<64xi8>, vector<32xi16>, vector<32xi16>, vector<16xi8>
}
