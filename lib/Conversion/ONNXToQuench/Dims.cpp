//===- Dims.cpp - Expressions over named dimensions -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Dims.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

static int64_t saturatingAdd(int64_t a, int64_t b) {
  int64_t sum;
  if (llvm::AddOverflow(a, b, sum))
    return a < 0 ? INT64_MIN : INT64_MAX;
  return sum;
}

static int64_t saturatingMul(int64_t a, int64_t b) {
  int64_t product;
  if (llvm::MulOverflow(a, b, product))
    return (a < 0) != (b < 0) ? INT64_MIN : INT64_MAX;
  return product;
}

//===----------------------------------------------------------------------===//
// Polynomials
//===----------------------------------------------------------------------===//

void Dim::add(const Product &product, int64_t coefficient) {
  auto [it, inserted] = terms.try_emplace(product, 0);
  it->second = saturatingAdd(it->second, coefficient);
  if (it->second == 0)
    terms.erase(it);
}

std::optional<unsigned> Dim::asAtom() const {
  if (terms.size() == 1 && terms.begin()->first.size() == 1 &&
      terms.begin()->second == 1)
    return terms.begin()->first.front();
  return std::nullopt;
}

bool Dim::contains(unsigned atom) const {
  return llvm::any_of(terms, [&](const auto &term) {
    return llvm::is_contained(term.first, atom);
  });
}

bool Dim::isNonNegative() const {
  return llvm::all_of(terms, [](const auto &term) { return term.second >= 0; });
}

Dim Dim::operator+(const Dim &other) const {
  Dim result = *this;
  for (auto &[product, coefficient] : other.terms)
    result.add(product, coefficient);
  return result;
}

Dim Dim::operator-(const Dim &other) const { return *this + other * Dim(-1); }

Dim Dim::operator*(const Dim &other) const {
  Dim result;
  for (auto &[p, a] : terms)
    for (auto &[q, b] : other.terms) {
      Product product;
      std::merge(p.begin(), p.end(), q.begin(), q.end(),
                 std::back_inserter(product));
      result.add(product, saturatingMul(a, b));
    }
  return result;
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

unsigned DimContext::makeAtom(Atom atom) {
  atoms.push_back(std::move(atom));
  return atoms.size() - 1;
}

Dim DimContext::named(StringRef name) {
  auto [it, inserted] = byName.try_emplace(name, 0);
  if (inserted)
    it->second = makeAtom({name.str(), Dim(), 0});
  return Dim::atom(it->second);
}

/// Splits at top level: not inside of parentheses.
static SmallVector<StringRef> splitAt(StringRef text, StringRef separator) {
  SmallVector<StringRef> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
    if (depth == 0 && text.substr(i).starts_with(separator)) {
      parts.push_back(text.slice(begin, i));
      begin = i + separator.size();
      i = begin - 1;
    }
  }
  parts.push_back(text.substr(begin));
  return parts;
}

Dim DimContext::parse(StringRef text) {
  text = text.trim();
  Dim sum;
  for (StringRef part : splitAt(text, " + ")) {
    Dim product(1);
    for (StringRef factor : splitAt(part, " * ")) {
      factor = factor.trim();
      int64_t number;
      SmallVector<StringRef> quotient = splitAt(factor, " floordiv ");
      if (!factor.getAsInteger(10, number))
        product = product * Dim(number);
      else if (quotient.size() == 2 && quotient[0].starts_with("(") &&
               quotient[0].ends_with(")") &&
               !quotient[1].getAsInteger(10, number) && number > 0)
        product = product *
                  floorDiv(parse(quotient[0].drop_front().drop_back()), number);
      else
        product = product * named(factor);
    }
    sum = sum + product;
  }
  return sum;
}

std::string DimContext::print(const Dim &unresolved) {
  Dim dim = resolve(unresolved);
  if (auto constant = dim.constant())
    return std::to_string(*constant);
  // Atoms in the order of their names, so that the text does not depend on
  // when they were seen; the constant last.
  std::vector<std::pair<std::string, int64_t>> parts;
  int64_t constant = 0;
  for (auto &[product, coefficient] : dim.getTerms()) {
    if (product.empty()) {
      constant = coefficient;
      continue;
    }
    SmallVector<std::string> names;
    for (unsigned id : product) {
      const Atom &atom = atoms[id];
      names.push_back(atom.divisor
                          ? "(" + print(atom.dividend) + ") floordiv " +
                                std::to_string(atom.divisor)
                          : atom.name);
    }
    llvm::sort(names);
    std::string text = llvm::join(names, " * ");
    if (coefficient != 1)
      text = std::to_string(coefficient) + " * " + text;
    parts.emplace_back(text, coefficient);
  }
  llvm::sort(parts);
  SmallVector<std::string> texts;
  for (auto &part : parts)
    texts.push_back(part.first);
  if (constant)
    texts.push_back(std::to_string(constant));
  return llvm::join(texts, " + ");
}

//===----------------------------------------------------------------------===//
// Equality
//===----------------------------------------------------------------------===//

Dim DimContext::resolve(const Dim &dim) const {
  bool change = llvm::any_of(dim.getTerms(), [&](const auto &term) {
    return llvm::any_of(term.first,
                        [&](unsigned atom) { return known.count(atom); });
  });
  if (!change)
    return dim;
  Dim result;
  for (auto &[product, coefficient] : dim.getTerms()) {
    Dim value(coefficient);
    for (unsigned atom : product) {
      auto it = known.find(atom);
      value = value * (it == known.end() ? Dim::atom(atom) : it->second);
    }
    result = result + value;
  }
  return resolve(result);
}

bool DimContext::unify(const Dim &left, const Dim &right) {
  Dim a = resolve(left), b = resolve(right);
  if (a == b)
    return true;
  if (a.isConstant() && b.isConstant())
    return false;
  auto learn = [&](const Dim &name, const Dim &value) {
    std::optional<unsigned> atom = name.asAtom();
    if (!atom || value.contains(*atom) || !value.isNonNegative())
      return false;
    // A quotient hides other atoms.
    if (atoms[*atom].divisor)
      return false;
    known[*atom] = value;
    return true;
  };
  // Of two names the later one goes.
  auto x = a.asAtom(), y = b.asAtom();
  if (x && y && *x < *y)
    return learn(b, a) || learn(a, b);
  if (learn(a, b) || learn(b, a))
    return true;
  // p + s = p + t: what is left over may be a name.
  Dim difference = a - b, positive, negative;
  for (auto &[product, coefficient] : difference.getTerms()) {
    Dim term(1);
    for (unsigned atom : product)
      term = term * Dim::atom(atom);
    if (coefficient > 0)
      positive = positive + term * Dim(coefficient);
    else
      negative = negative + term * Dim(-coefficient);
  }
  if (positive == a && negative == b)
    return true; // not known to differ
  return unify(positive, negative);
}

std::optional<Dim> DimContext::divide(const Dim &left, const Dim &right) const {
  Dim rest = resolve(left), by = resolve(right), quotient;
  if (by.isConstant(0))
    return std::nullopt;
  if (rest == by)
    return Dim(1);
  const auto &[leadProduct, lead] = *by.getTerms().rbegin();
  for (int steps = 0; steps < 64 && !rest.isConstant(0); ++steps) {
    const auto &[product, coefficient] = *rest.getTerms().rbegin();
    if (coefficient % lead != 0 ||
        !std::includes(product.begin(), product.end(), leadProduct.begin(),
                       leadProduct.end()))
      return std::nullopt;
    Dim::Product remaining;
    std::set_difference(product.begin(), product.end(), leadProduct.begin(),
                        leadProduct.end(), std::back_inserter(remaining));
    Dim factor(coefficient / lead);
    for (unsigned atom : remaining)
      factor = factor * Dim::atom(atom);
    quotient = quotient + factor;
    rest = rest - factor * by;
  }
  if (!rest.isConstant(0))
    return std::nullopt;
  return quotient;
}

Dim DimContext::floorDiv(const Dim &unresolved, int64_t b) {
  Dim a = resolve(unresolved);
  if (auto constant = a.constant())
    return Dim(llvm::divideFloorSigned(*constant, b));
  if (auto exact = divide(a, Dim(b)))
    return *exact;
  auto [it, inserted] = quotients.try_emplace({a, b}, 0);
  if (inserted)
    it->second = makeAtom({"", a, b});
  return Dim::atom(it->second);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

Value DimContext::emit(OpBuilder &builder, Location loc, const Dim &dim) {
  if (auto it = values.find(dim); it != values.end())
    return it->second;
  auto keep = [&](Value value) {
    last = value.getDefiningOp();
    values[dim] = value;
    return value;
  };
  if (auto constant = dim.constant())
    return keep(arith::ConstantIndexOp::create(builder, loc, *constant));
  if (auto id = dim.asAtom()) {
    Atom atom = atoms[*id];
    if (!atom.divisor)
      return keep(
          qn::DimOp::create(builder, loc, builder.getIndexType(), atom.name));
    Value dividend = emit(builder, loc, resolve(atom.dividend));
    Value divisor = emit(builder, loc, Dim(atom.divisor));
    return keep(arith::DivSIOp::create(builder, loc, dividend, divisor));
  }
  Value sum;
  for (auto &[product, coefficient] : dim.getTerms()) {
    Value value;
    if (coefficient != 1 || product.empty())
      value = emit(builder, loc, Dim(coefficient));
    for (unsigned atom : product) {
      Value factor = emit(builder, loc, Dim::atom(atom));
      value =
          value ? arith::MulIOp::create(builder, loc, value, factor) : factor;
    }
    sum = sum ? arith::AddIOp::create(builder, loc, sum, value) : value;
  }
  return keep(sum);
}

OpBuilder DimContext::behindValues(Block *entry) const {
  OpBuilder builder(entry, entry->begin());
  if (last)
    builder.setInsertionPointAfter(last);
  return builder;
}

Value DimContext::materialize(Block *entry, const Dim &unresolved) {
  Dim dim = resolve(unresolved);
  OpBuilder builder = behindValues(entry);
  Location loc = entry->getParentOp() ? entry->getParentOp()->getLoc()
                                      : builder.getUnknownLoc();
  return emit(builder, loc, dim);
}
