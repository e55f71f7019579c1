// RUN: quench-opt %s | quench-opt | FileCheck %s
// RUN: quench-opt %s --mlir-print-op-generic | quench-opt | FileCheck %s

// CHECK-LABEL: func.func @window
func.func @window(%lo : vector<64xi8>, %hi : vector<64xi8>) -> (vector<64xi8>, vector<64xi8>) {
  // CHECK: qk.window %{{.*}} unit 64 pos [0, 5, 10, 15, 20, 25, 30, 35] width 5 : vector<64xi8>
  %a = qk.window %lo unit 64 pos [0, 5, 10, 15, 20, 25, 30, 35] width 5 : vector<64xi8>
  // CHECK: qk.window %{{.*}}, %{{.*}} unit 32 pos [16, 18, 20, 40] : vector<64xi8>, vector<64xi8>
  %b = qk.window %lo, %hi unit 32 pos [16, 18, 20, 40] : vector<64xi8>, vector<64xi8>
  return %a, %b : vector<64xi8>, vector<64xi8>
}

// CHECK-LABEL: func.func @bytes
func.func @bytes(%v : vector<16xi8>) -> (vector<16xi8>, vector<16xi8>, vector<16xi8>) {
  // CHECK: qk.field %{{.*}} off 4 width 4 at 0 : vector<16xi8>
  %a = qk.field %v off 4 width 4 at 0 : vector<16xi8>
  // CHECK: qk.lookup %{{.*}}, dense<{{.*}}> : tensor<16xi8>, vector<16xi8> -> vector<16xi8>
  %b = qk.lookup %v, dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, -1]> : tensor<16xi8>, vector<16xi8> -> vector<16xi8>
  // CHECK: qk.affine %{{.*}} rows [1, 2, 4, 8, 16, 32, 64, 255] constant 128 : vector<16xi8>
  %c = qk.affine %v rows [1, 2, 4, 8, 16, 32, 64, 255] constant 128 : vector<16xi8>
  return %a, %b, %c : vector<16xi8>, vector<16xi8>, vector<16xi8>
}

// CHECK-LABEL: func.func @float_table
func.func @float_table(%v : vector<16xi32>) -> vector<16xf32> {
  // CHECK: qk.lookup %{{.*}}, dense<1.000000e+00> : tensor<16xf32>, vector<16xi32> -> vector<16xf32>
  %a = qk.lookup %v, dense<1.0> : tensor<16xf32>, vector<16xi32> -> vector<16xf32>
  return %a : vector<16xf32>
}

// CHECK-LABEL: func.func @tables_of_values
func.func @tables_of_values(%v : vector<64xi8>, %a : vector<64xi8>, %b : vector<64xi8>, %w : vector<16xi32>,
                            %f : vector<16xf32>) -> (vector<64xi8>, vector<16xf32>) {
  // CHECK: qk.lookup_values %{{.*}} in %{{.*}}, %{{.*}} : vector<64xi8>, vector<64xi8>, vector<64xi8> -> vector<64xi8>
  %r = qk.lookup_values %v in %a, %b : vector<64xi8>, vector<64xi8>, vector<64xi8> -> vector<64xi8>
  // CHECK: qk.lookup_values %{{.*}} in %{{.*}} : vector<16xi32>, vector<16xf32> -> vector<16xf32>
  %s = qk.lookup_values %w in %f : vector<16xi32>, vector<16xf32> -> vector<16xf32>
  return %r, %s : vector<64xi8>, vector<16xf32>
}

// CHECK-LABEL: func.func @sums
func.func @sums(%acc : vector<16xi32>, %w : vector<64xi8>, %x : i32, %e : vector<32xi16>, %o : vector<32xi16>)
    -> (vector<16xi32>, vector<32xi16>) {
  // CHECK: qk.dot4 %{{.*}}, %{{.*}}, %{{.*}} hi 15 : vector<16xi32>, vector<64xi8>
  %a = qk.dot4 %acc, %w, %x hi 15 : vector<16xi32>, vector<64xi8>
  // CHECK: qk.dot4 %{{.*}}, %{{.*}}, %{{[^ ]*}} : vector<16xi32>, vector<64xi8>
  %b = qk.dot4 %a, %w, %x : vector<16xi32>, vector<64xi8>
  // CHECK: qk.add_wide %{{.*}}, %{{.*}}, %{{.*}} : vector<32xi16>, vector<64xi8>
  %e1, %o1 = qk.add_wide %e, %o, %w : vector<32xi16>, vector<64xi8>
  return %b, %e1 : vector<16xi32>, vector<32xi16>
}

// CHECK-LABEL: func.func @floats
func.func @floats(%v : vector<16xf32>, %s : f32) -> (vector<16xi8>, vector<16xf32>) {
  // CHECK: qk.quantize %{{.*}}, %{{.*}} : vector<16xf32> -> vector<16xi8>
  %q = qk.quantize %v, %s : vector<16xf32> -> vector<16xi8>
  // CHECK: qk.butterfly %{{.*}} distance 4 : vector<16xf32>
  %b = qk.butterfly %v distance 4 : vector<16xf32>
  return %q, %b : vector<16xi8>, vector<16xf32>
}
