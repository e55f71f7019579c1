//===- Dims.h - Expressions over named dimensions --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sizes of tensors are integer polynomials over the named dimensions of a
// model: `past_sequence_length + sequence_length`. Two sizes are equal if their
// polynomials are, after what has been learned about names (`unify`).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_ONNXTOQUENCH_DIMS_H
#define QUENCH_LIB_CONVERSION_ONNXTOQUENCH_DIMS_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace quench::onnx_to_quench {

/// A sum of products of atoms with integer coefficients. Value type; the atoms
/// belong to a DimContext. Coefficients saturate.
class Dim {
public:
  using Product = std::vector<unsigned>; // sorted atoms

  Dim(int64_t constant = 0) {
    if (constant)
      terms[{}] = constant;
  }
  static Dim atom(unsigned id) {
    Dim dim;
    dim.terms[{id}] = 1;
    return dim;
  }

  bool isConstant() const {
    return terms.empty() || (terms.size() == 1 && terms.begin()->first.empty());
  }
  /// The constant, if it is one.
  std::optional<int64_t> constant() const {
    if (!isConstant())
      return std::nullopt;
    return terms.empty() ? 0 : terms.begin()->second;
  }
  bool isConstant(int64_t value) const { return constant() == value; }
  /// The atom, if it is a single one with coefficient 1.
  std::optional<unsigned> asAtom() const;
  bool contains(unsigned atom) const;
  /// Every coefficient is at least zero, so that the value is (dimensions are
  /// not negative).
  bool isNonNegative() const;

  Dim operator+(const Dim &other) const;
  Dim operator-(const Dim &other) const;
  Dim operator*(const Dim &other) const;
  bool operator==(const Dim &other) const { return terms == other.terms; }
  bool operator!=(const Dim &other) const { return !(*this == other); }
  bool operator<(const Dim &other) const { return terms < other.terms; }

  const std::map<Product, int64_t> &getTerms() const { return terms; }

private:
  void add(const Product &product, int64_t coefficient);
  std::map<Product, int64_t> terms; // no zero coefficients
};

using Dims = llvm::SmallVector<Dim, 4>;

/// The names of one function's dimensions and what is known about them.
class DimContext {
public:
  /// The dimension of a name; the same one for the same name.
  Dim named(llvm::StringRef name);

  /// Reads an expression as `print` writes it. A text that is not one is taken
  /// as a name.
  Dim parse(llvm::StringRef text);
  /// `past_sequence_length + sequence_length`, `8`, `2 * n`.
  std::string print(const Dim &dim);

  /// The form of a size after all that was learned by `unify`.
  Dim resolve(const Dim &dim) const;
  bool equal(const Dim &a, const Dim &b) const {
    return resolve(a) == resolve(b);
  }
  /// Learns that two sizes are the same. False if they cannot be.
  bool unify(const Dim &a, const Dim &b);

  /// a / b without remainder; null if that is not known.
  std::optional<Dim> divide(const Dim &a, const Dim &b) const;
  /// floor(a / b) for a constant b > 0; makes an atom if it must.
  Dim floorDiv(const Dim &a, int64_t b);

  /// The size as an index value, made at the beginning of the function once.
  mlir::Value materialize(mlir::Block *entry, const Dim &dim);
  /// A builder behind all values made so far.
  mlir::OpBuilder behindValues(mlir::Block *entry) const;

private:
  struct Atom {
    std::string name; // of a plain dimension
    Dim dividend;     // of a quotient, with divisor > 0
    int64_t divisor = 0;
  };
  unsigned makeAtom(Atom atom);
  mlir::Value emit(mlir::OpBuilder &builder, mlir::Location loc,
                   const Dim &dim);

  std::vector<Atom> atoms;
  llvm::StringMap<unsigned> byName;
  std::map<std::pair<Dim, int64_t>, unsigned> quotients;
  std::map<unsigned, Dim> known; // atom -> what it is
  std::map<Dim, mlir::Value> values;
  mlir::Operation *last = nullptr; // behind which values are made
};

} // namespace quench::onnx_to_quench

#endif // QUENCH_LIB_CONVERSION_ONNXTOQUENCH_DIMS_H
