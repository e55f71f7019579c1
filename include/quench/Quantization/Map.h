//===- Map.h - Invertible linear maps ---------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every outlier method puts an invertible linear map between two layers. A map
// acts on row vectors, v -> v M, M of in() rows and out() columns. All work is
// in double.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_MAP_H
#define QUENCH_QUANTIZATION_MAP_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace quench {

/// One step of a fast transform of a vector of n numbers, in place. Steps are
/// what a backend emits for a map that stays on line.
struct MapStep {
  enum Kind {
    Scale,     // v[i] *= data[0]
    Diagonal,  // v[i] *= data[i]
    Permute,   // v'[i] = v[index[i]]
    Butterfly, // unnormalized Sylvester-Hadamard of `size` (a power of two)
               // along an axis of stride `stride`: v seen as [n / (size *
               // stride)][size][stride]
    Dense // v' = v B along the same axis: data is B, [size][size] row major; if
          // data holds more than one matrix, matrix g is for the g-th
          // [size][stride] slab
  };
  Kind kind;
  int64_t size = 0, stride = 1;
  std::vector<double> data;
  std::vector<int32_t> index;
};

class Map {
public:
  virtual ~Map();
  virtual int64_t in() const = 0;
  virtual int64_t out() const = 0;
  /// A text for remarks, e.g. "hadamard<576>".
  virtual std::string spec() const = 0;
  virtual std::unique_ptr<Map> clone() const = 0;
  /// Null: there is none (one-sided maps) or it is singular.
  virtual std::unique_ptr<Map> inverse() const = 0;
  virtual std::unique_ptr<Map> transposed() const = 0;
  virtual bool isIdentity() const { return false; }
  virtual bool isOrthogonal() const { return false; }
  virtual bool isDiagonal() const { return false; }
  virtual bool isPermutation() const { return false; }
  /// Adds the steps of v -> v M; their order is the order of execution. A map
  /// whose in() and out() differ has none.
  virtual void steps(std::vector<MapStep> &steps) const = 0;
  /// First this map, then `next`, as one map of the same kind (an identity if
  /// they cancel); null if there is no such map. productMap asks neighbours.
  virtual std::unique_ptr<Map> mergedWith(const Map &next) const;
  /// rows vectors of in() numbers become rows vectors of out() numbers; the
  /// default runs steps(). `values` and `result` do not overlap.
  virtual void apply(const double *values, int64_t rows, double *result) const;
  /// Multiplications and additions for one vector.
  int64_t cost() const;
};

std::unique_ptr<Map> identityMap(int64_t n);
std::unique_ptr<Map> diagonalMap(std::vector<double> diagonal);
/// v'[i] = v[index[i]]. Error: index is not a permutation.
llvm::Expected<std::unique_ptr<Map>> permutationMap(std::vector<int32_t> index);
/// Random signs from a seed: the same for a seed on every machine. Sign i is -1
/// where bit 63 of output i of splitmix64, started with the seed, is set.
std::unique_ptr<Map> signsMap(int64_t n, uint64_t seed);
/// Normalized (orthogonal) Hadamard of order n = K * 2^p by the rule of Paley
/// I, Paley II (prime powers included) and doubling, H_K (x) H_{2^p}. Error: no
/// construction; the message names the nearest orders that have one and the
/// largest power of two that divides n (for blockHadamardMap).
llvm::Expected<std::unique_ptr<Map>> hadamardMap(int64_t n);
/// Block-diagonal normalized Sylvester-Hadamard of blocks of `block` (a power
/// of two).
llvm::Expected<std::unique_ptr<Map>> blockHadamardMap(int64_t n, int64_t block);
/// Equal blocks b x b along the diagonal (data: b*b) or one for each (data: n/b
/// * b*b), row major.
llvm::Expected<std::unique_ptr<Map>> blockDiagonalMap(int64_t n, int64_t block,
                                                      std::vector<double> data);
/// Row major [in][out].
std::unique_ptr<Map> denseMap(int64_t in, int64_t out,
                              std::vector<double> data);
/// First a, then b, ...: v M_a M_b. Flattens, drops identities, cancels
/// neighbours that are inverse.
std::unique_ptr<Map> productMap(std::vector<std::unique_ptr<Map>> factors);

/// The Hadamard matrix of order n with entries +-1, row major: H of hadamardMap
/// before its division by sqrt(n). Error as hadamardMap, and for n > 8192.
llvm::Expected<std::vector<int8_t>> hadamardMatrix(int64_t n);

} // namespace quench

#endif // QUENCH_QUANTIZATION_MAP_H
