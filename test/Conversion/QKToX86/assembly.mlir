// The instructions that decide the speed come out of every lowering.
// RUN: quench-opt %s --convert-qk-to-x86=features=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni \
// RUN:   --convert-scf-to-cf --convert-vector-to-llvm --convert-arith-to-llvm --finalize-memref-to-llvm --convert-cf-to-llvm \
// RUN:   --convert-func-to-llvm --reconcile-unrealized-casts \
// RUN:   | mlir-translate --mlir-to-llvmir \
// RUN:   | llc -mtriple=x86_64-linux-gnu -mattr=+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi,+gfni \
// RUN:   | FileCheck %s

// CHECK-LABEL: dot4:
// CHECK: vpdpbusd {{.*}}{1to16}
func.func @dot4(%acc : vector<16xi32>, %w : vector<64xi8>, %x : memref<4xi32>) -> vector<16xi32> {
  %i = arith.constant 1 : index
  %v = memref.load %x[%i] : memref<4xi32>
  %a = qk.dot4 %acc, %w, %v : vector<16xi32>, vector<64xi8>
  return %a : vector<16xi32>
}

// Masked in place: one instruction.
// CHECK-LABEL: field:
// CHECK-NOT: vps{{[lr]}}
// CHECK: v{{p?}}and
// CHECK: ret
func.func @field(%v : vector<64xi8>) -> vector<64xi8> {
  %a = qk.field %v off 4 width 4 at 4 : vector<64xi8>
  return %a : vector<64xi8>
}

// No mask: the table is repeated, and the instruction ignores the high bits.
// CHECK-LABEL: lookup16:
// CHECK-NOT: vpand
// CHECK: vpermb
// CHECK: ret
func.func @lookup16(%v : vector<64xi8>) -> vector<64xi8> {
  %a = qk.lookup %v, dense<[5, 39, 63, 79, 93, 105, 117, 127, 1, 2, 3, 4, 5, 6, 7, 8]> : tensor<16xi8>, vector<64xi8> -> vector<64xi8>
  return %a : vector<64xi8>
}

// CHECK-LABEL: lookup256:
// CHECK-DAG: vperm{{[it]}}2b
// CHECK-DAG: vpmovb2m
// CHECK: ret
func.func @lookup256(%v : vector<64xi8>) -> vector<64xi8> {
  %a = qk.lookup %v, dense<"0x000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F606162636465666768696A6B6C6D6E6F707172737475767778797A7B7C7D7E7F808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0C1C2C3C4C5C6C7C8C9CACBCCCDCECFD0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEFF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF"> : tensor<256xi8>, vector<64xi8> -> vector<64xi8>
  return %a : vector<64xi8>
}

// CHECK-LABEL: lookup_values:
// CHECK-DAG: vperm{{[it]}}2b
// CHECK-DAG: vpmovb2m
// CHECK: ret
func.func @lookup_values(%v : vector<64xi8>, %t : memref<256xi8>) -> vector<64xi8> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 64 : index
  %c2 = arith.constant 128 : index
  %c3 = arith.constant 192 : index
  %t0 = vector.load %t[%c0] : memref<256xi8>, vector<64xi8>
  %t1 = vector.load %t[%c1] : memref<256xi8>, vector<64xi8>
  %t2 = vector.load %t[%c2] : memref<256xi8>, vector<64xi8>
  %t3 = vector.load %t[%c3] : memref<256xi8>, vector<64xi8>
  %a = qk.lookup_values %v in %t0, %t1, %t2, %t3 : vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8> -> vector<64xi8>
  return %a : vector<64xi8>
}

// CHECK-LABEL: float_lookup:
// CHECK: vpermps
func.func @float_lookup(%v : vector<16xi32>) -> vector<16xf32> {
  %a = qk.lookup %v, dense<[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0]> : tensor<16xf32>, vector<16xi32> -> vector<16xf32>
  return %a : vector<16xf32>
}

// CHECK-LABEL: affine:
// CHECK: vgf2p8affineqb
func.func @affine(%v : vector<64xi8>) -> vector<64xi8> {
  %a = qk.affine %v rows [255, 1, 2, 4, 8, 16, 32, 64] constant 35 : vector<64xi8>
  return %a : vector<64xi8>
}

// CHECK-LABEL: window:
// CHECK: vpmultishiftqb
func.func @window(%v : vector<64xi8>) -> vector<64xi8> {
  %a = qk.window %v unit 64 pos [0, 5, 10, 15, 20, 25, 30, 35] : vector<64xi8>
  return %a : vector<64xi8>
}

// A shift, no more.
// CHECK-LABEL: funnel:
// CHECK-NOT: vpmultishiftqb
// CHECK: retq
func.func @funnel(%lo : vector<64xi8>, %hi : vector<64xi8>) -> vector<64xi8> {
  %a = qk.window %lo, %hi unit 32 pos [16, 24, 32, 40] : vector<64xi8>, vector<64xi8>
  return %a : vector<64xi8>
}

// CHECK-LABEL: quantize:
// CHECK: vcvtps2dq
// CHECK-NOT: vrndscale
// CHECK: vpmov{{s?}}db
func.func @quantize(%v : vector<16xf32>, %s : f32) -> vector<16xi8> {
  %a = qk.quantize %v, %s : vector<16xf32> -> vector<16xi8>
  return %a : vector<16xi8>
}
