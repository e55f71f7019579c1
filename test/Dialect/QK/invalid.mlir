// RUN: quench-opt %s -split-input-file -verify-diagnostics

func.func @unit(%v : vector<64xi8>) {
  // expected-error @+1 {{unit is 24, only lanes of 16, 32 or 64 bits can be read}}
  %a = qk.window %v unit 24 pos [0, 1, 2] : vector<64xi8>
  return
}

// -----

func.func @lanes(%v : vector<6xi8>) {
  // expected-error @+1 {{a vector of 6 bytes does not consist of lanes of 32 bits}}
  %a = qk.window %v unit 32 pos [0, 1, 2, 3] : vector<6xi8>
  return
}

// -----

func.func @positions(%v : vector<8xi8>) {
  // expected-error @+1 {{has 3 positions, a lane of 32 bits has 4 bytes}}
  %a = qk.window %v unit 32 pos [0, 1, 2] : vector<8xi8>
  return
}

// -----

func.func @outside(%v : vector<8xi8>) {
  // expected-error @+1 {{position 30 is outside of the 32 bits of a lane}}
  %a = qk.window %v unit 32 pos [0, 1, 2, 30] width 4 : vector<8xi8>
  return
}

// -----

func.func @hi(%v : vector<8xi8>, %h : vector<16xi8>) {
  // expected-error @+1 {{hi has type 'vector<16xi8>', lo has 'vector<8xi8>'}}
  %a = qk.window %v, %h unit 32 pos [0, 1, 2, 3] : vector<8xi8>, vector<16xi8>
  return
}

// -----

func.func @field(%v : vector<8xi8>) {
  // expected-error @+1 {{bits [5, 9) are not a field of a byte}}
  %a = qk.field %v off 5 width 4 at 0 : vector<8xi8>
  return
}

// -----

func.func @at(%v : vector<8xi8>) {
  // expected-error @+1 {{a field of 4 bits does not fit at bit 6}}
  %a = qk.field %v off 0 width 4 at 6 : vector<8xi8>
  return
}

// -----

func.func @table(%v : vector<8xi8>) {
  // expected-error @+1 {{has a table of 17 bytes, it must have 16, 32, 64, 128 or 256}}
  %a = qk.lookup %v, dense<0> : tensor<17xi8>, vector<8xi8> -> vector<8xi8>
  return
}

// -----

func.func @floats(%v : vector<8xi32>) {
  // expected-error @+1 {{has a table of 32 floats, only 16 are supported}}
  %a = qk.lookup %v, dense<0.0> : tensor<32xf32>, vector<8xi32> -> vector<8xf32>
  return
}

// -----

func.func @indices(%v : vector<8xi8>) {
  // expected-error @+1 {{has 8 indices and 16 results}}
  %a = qk.lookup %v, dense<0> : tensor<16xi8>, vector<8xi8> -> vector<16xi8>
  return
}

// -----

func.func @mixed(%v : vector<8xi8>) {
  // expected-error @+1 {{has a table of 'f32' and a result of 'i8'}}
  %a = qk.lookup %v, dense<0.0> : tensor<16xf32>, vector<8xi8> -> vector<8xi8>
  return
}

// -----

func.func @rows(%v : vector<8xi8>) {
  // expected-error @+1 {{has 7 rows, a byte needs 8}}
  %a = qk.affine %v rows [1, 2, 3, 4, 5, 6, 7] constant 0 : vector<8xi8>
  return
}

// -----

func.func @row(%v : vector<8xi8>) {
  // expected-error @+1 {{row 256 is not a byte (0..255)}}
  %a = qk.affine %v rows [1, 2, 3, 4, 5, 6, 7, 256] constant 0 : vector<8xi8>
  return
}

// -----

func.func @constant(%v : vector<8xi8>) {
  // expected-error @+1 {{constant 300 is not a byte (0..255)}}
  %a = qk.affine %v rows [1, 2, 3, 4, 5, 6, 7, 8] constant 300 : vector<8xi8>
  return
}

// -----

func.func @dot4(%acc : vector<16xi32>, %w : vector<32xi8>, %x : i32) {
  // expected-error @+1 {{needs four bytes of w for each sum: has 32 bytes and 16 sums}}
  %a = qk.dot4 %acc, %w, %x : vector<16xi32>, vector<32xi8>
  return
}

// -----

func.func @range(%acc : vector<16xi32>, %w : vector<64xi8>, %x : i32) {
  // expected-error @+1 {{hi 256 is not an unsigned byte (0..255)}}
  %a = qk.dot4 %acc, %w, %x hi 256 : vector<16xi32>, vector<64xi8>
  return
}

// -----

func.func @wide(%e : vector<16xi16>, %w : vector<64xi8>) {
  // expected-error @+1 {{needs two bytes for each pair of sums: has 64 bytes and 16 pairs}}
  %a, %b = qk.add_wide %e, %e, %w : vector<16xi16>, vector<64xi8>
  return
}

// -----

func.func @quantize(%v : vector<16xf32>, %s : f32) {
  // expected-error @+1 {{has 16 floats and 8 bytes}}
  %a = qk.quantize %v, %s : vector<16xf32> -> vector<8xi8>
  return
}

// -----

func.func @butterfly(%v : vector<16xf32>) {
  // expected-error @+1 {{distance 16 must be a power of two, twice of which divides the 16 lanes}}
  %a = qk.butterfly %v distance 16 : vector<16xf32>
  return
}

// -----

func.func @three_tables(%v : vector<64xi8>) {
  // expected-error @+1 {{has 3 tables, it must have 1, 2 or 4}}
  %a = qk.lookup_values %v in %v, %v, %v : vector<64xi8>, vector<64xi8>, vector<64xi8>, vector<64xi8> -> vector<64xi8>
  return
}

// -----

func.func @long_table(%v : vector<128xi8>) {
  // expected-error @+1 {{has a table of 512 entries, it must be a power of two, at most 256 bytes}}
  %a = qk.lookup_values %v in %v, %v, %v, %v : vector<128xi8>, vector<128xi8>, vector<128xi8>, vector<128xi8>, vector<128xi8> -> vector<128xi8>
  return
}

// -----

func.func @words(%v : vector<16xi32>, %t : vector<16xi8>) {
  // expected-error @+1 {{looks 'i8' up with an index of 'i32', bytes need bytes and floats need words}}
  %a = qk.lookup_values %v in %t : vector<16xi32>, vector<16xi8> -> vector<16xi8>
  return
}
