//===- QuenchAttrs.cpp - Formats and maps as attributes -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/IR/Quench.h"

using namespace mlir;
using llvm::createStringError;
using llvm::Expected;
using llvm::Twine;
using namespace quench;
using namespace quench::qn;

#include "quench/Dialect/Quench/IR/QuenchAttrInterfaces.cpp.inc"

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

FormatAttr FormatAttr::parseSpec(MLIRContext *context, StringRef spec,
                                 function_ref<InFlightDiagnostic()> emitError) {
  Expected<const Format *> format = ::quench::getFormat(spec);
  if (!format) {
    emitError() << toString(format.takeError());
    return {};
  }
  return get(context, (*format)->spec());
}

LogicalResult FormatAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef spec) {
  Expected<const Format *> format = ::quench::getFormat(spec);
  if (!format)
    return emitError() << toString(format.takeError());
  if ((*format)->spec() != spec)
    return emitError() << "format \"" << spec << "\" is not canonical, write \""
                       << (*format)->spec() << "\"";
  return success();
}

const Format &FormatAttr::getFormat() const {
  // The verifier has seen the text.
  return **::quench::getFormat(getSpec());
}

//===----------------------------------------------------------------------===//
// Maps
//===----------------------------------------------------------------------===//

using ReadFn = function_ref<Expected<std::vector<double>>(StringRef)>;

/// The numbers of an initializer, of which there must be `count`.
static Expected<std::vector<double>>
readNumbers(ReadFn read, FlatSymbolRefAttr symbol, int64_t count) {
  Expected<std::vector<double>> data = read(symbol.getValue());
  if (!data)
    return data.takeError();
  if (static_cast<int64_t>(data->size()) != count)
    return createStringError("initializer '" + symbol.getValue() +
                             "' of a map has " + Twine(data->size()) +
                             " numbers, expected " + Twine(count));
  return data;
}

int64_t SignsAttr::getIn() const { return getN(); }
int64_t SignsAttr::getOut() const { return getN(); }
MapInterface SignsAttr::getInverse() const { return *this; }
MapInterface SignsAttr::getTransposed() const { return *this; }
bool SignsAttr::isOrthogonal() const { return true; }
bool SignsAttr::isDiagonal() const { return true; }
Expected<std::unique_ptr<Map>> SignsAttr::instantiate(ReadFn) const {
  return signsMap(getN(), getSeed());
}

LogicalResult HadamardAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t n, int64_t block, bool transpose) {
  Expected<std::unique_ptr<Map>> map =
      block ? blockHadamardMap(n, block) : hadamardMap(n);
  if (!map)
    return emitError() << toString(map.takeError());
  return success();
}
int64_t HadamardAttr::getIn() const { return getN(); }
int64_t HadamardAttr::getOut() const { return getN(); }
MapInterface HadamardAttr::getInverse() const { return getTransposed(); }
MapInterface HadamardAttr::getTransposed() const {
  // Sylvester's matrices are symmetric.
  int64_t order = getBlock() ? getBlock() : getN();
  if ((order & (order - 1)) == 0)
    return *this;
  return HadamardAttr::get(getContext(), getN(), getBlock(), !getTranspose());
}
bool HadamardAttr::isOrthogonal() const { return true; }
bool HadamardAttr::isDiagonal() const { return false; }
Expected<std::unique_ptr<Map>> HadamardAttr::instantiate(ReadFn) const {
  Expected<std::unique_ptr<Map>> map =
      getBlock() ? blockHadamardMap(getN(), getBlock()) : hadamardMap(getN());
  if (map && getTranspose())
    return (*map)->transposed();
  return map;
}

int64_t DiagAttr::getIn() const { return getN(); }
int64_t DiagAttr::getOut() const { return getN(); }
MapInterface DiagAttr::getInverse() const {
  return DiagAttr::get(getContext(), getSymbol(), getN(), !getInverted());
}
MapInterface DiagAttr::getTransposed() const { return *this; }
bool DiagAttr::isOrthogonal() const { return false; }
bool DiagAttr::isDiagonal() const { return true; }
Expected<std::unique_ptr<Map>> DiagAttr::instantiate(ReadFn read) const {
  Expected<std::vector<double>> data = readNumbers(read, getSymbol(), getN());
  if (!data)
    return data.takeError();
  for (double &d : *data) {
    if (getInverted() && d == 0)
      return createStringError("initializer '" + getSymbol().getValue() +
                               "' has a zero: the diagonal map has no inverse");
    d = getInverted() ? 1 / d : d;
  }
  return diagonalMap(std::move(*data));
}

int64_t PermuteAttr::getIn() const { return getN(); }
int64_t PermuteAttr::getOut() const { return getN(); }
MapInterface PermuteAttr::getInverse() const {
  return PermuteAttr::get(getContext(), getSymbol(), getN(), !getInverted());
}
MapInterface PermuteAttr::getTransposed() const { return getInverse(); }
bool PermuteAttr::isOrthogonal() const { return true; }
bool PermuteAttr::isDiagonal() const { return false; }
Expected<std::unique_ptr<Map>> PermuteAttr::instantiate(ReadFn read) const {
  Expected<std::vector<double>> data = readNumbers(read, getSymbol(), getN());
  if (!data)
    return data.takeError();
  std::vector<int32_t> index(data->begin(), data->end());
  Expected<std::unique_ptr<Map>> map = permutationMap(std::move(index));
  if (map && getInverted())
    return (*map)->inverse();
  return map;
}

int64_t DenseMapAttr::getIn() const { return getN(); }
int64_t DenseMapAttr::getOut() const { return getN(); }
MapInterface DenseMapAttr::getInverse() const {
  if (getOrthogonal())
    return getTransposed();
  return DenseMapAttr::get(getContext(), getSymbol(), getN(), getOrthogonal(),
                           getTranspose(), !getInverted());
}
MapInterface DenseMapAttr::getTransposed() const {
  return DenseMapAttr::get(getContext(), getSymbol(), getN(), getOrthogonal(),
                           !getTranspose(), getInverted());
}
bool DenseMapAttr::isOrthogonal() const { return getOrthogonal(); }
bool DenseMapAttr::isDiagonal() const { return false; }
Expected<std::unique_ptr<Map>> DenseMapAttr::instantiate(ReadFn read) const {
  Expected<std::vector<double>> data =
      readNumbers(read, getSymbol(), getN() * getN());
  if (!data)
    return data.takeError();
  std::unique_ptr<Map> map = denseMap(getN(), getN(), std::move(*data));
  if (getTranspose())
    map = map->transposed();
  if (getInverted())
    map = map->inverse();
  if (!map)
    return createStringError("the matrix of '" + getSymbol().getValue() +
                             "' is singular");
  return map;
}

int64_t BlockDiagAttr::getIn() const { return getN(); }
int64_t BlockDiagAttr::getOut() const { return getN(); }
MapInterface BlockDiagAttr::getInverse() const { return getTransposed(); }
MapInterface BlockDiagAttr::getTransposed() const {
  return BlockDiagAttr::get(getContext(), getSymbol(), getN(), getBlock(),
                            !getTranspose());
}
bool BlockDiagAttr::isOrthogonal() const { return true; }
bool BlockDiagAttr::isDiagonal() const { return false; }
Expected<std::unique_ptr<Map>> BlockDiagAttr::instantiate(ReadFn read) const {
  Expected<std::vector<double>> data = read(getSymbol().getValue());
  if (!data)
    return data.takeError();
  Expected<std::unique_ptr<Map>> map =
      blockDiagonalMap(getN(), getBlock(), std::move(*data));
  if (map && getTranspose())
    return (*map)->transposed();
  return map;
}

LogicalResult
ProductMapAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                       ArrayRef<Attribute> factors) {
  if (factors.size() < 2)
    return emitError() << "a product of maps has at least two factors, found "
                       << factors.size();
  int64_t n = -1;
  for (Attribute factor : factors) {
    auto map = dyn_cast<MapInterface>(factor);
    if (!map)
      return emitError() << "factor " << factor << " is not a map";
    if (n >= 0 && map.getIn() != n)
      return emitError() << "factor " << factor << " takes " << map.getIn()
                         << " numbers, the one before it gives " << n;
    n = map.getOut();
  }
  return success();
}
int64_t ProductMapAttr::getIn() const {
  return cast<MapInterface>(getFactors().front()).getIn();
}
int64_t ProductMapAttr::getOut() const {
  return cast<MapInterface>(getFactors().back()).getOut();
}
static MapInterface mapFactors(ProductMapAttr product,
                               function_ref<MapInterface(MapInterface)> fn) {
  SmallVector<Attribute> factors;
  for (Attribute factor : llvm::reverse(product.getFactors())) {
    MapInterface map = fn(cast<MapInterface>(factor));
    if (!map)
      return {};
    factors.push_back(map);
  }
  return ProductMapAttr::get(product.getContext(), factors);
}
MapInterface ProductMapAttr::getInverse() const {
  return mapFactors(*this, [](MapInterface m) { return m.getInverse(); });
}
MapInterface ProductMapAttr::getTransposed() const {
  return mapFactors(*this, [](MapInterface m) { return m.getTransposed(); });
}
bool ProductMapAttr::isOrthogonal() const {
  return llvm::all_of(getFactors(), [](Attribute f) {
    return cast<MapInterface>(f).isOrthogonal();
  });
}
bool ProductMapAttr::isDiagonal() const {
  return llvm::all_of(getFactors(), [](Attribute f) {
    return cast<MapInterface>(f).isDiagonal();
  });
}
Expected<std::unique_ptr<Map>> ProductMapAttr::instantiate(ReadFn read) const {
  std::vector<std::unique_ptr<Map>> factors;
  for (Attribute factor : getFactors()) {
    Expected<std::unique_ptr<Map>> map =
        cast<MapInterface>(factor).instantiate(read);
    if (!map)
      return map.takeError();
    factors.push_back(std::move(*map));
  }
  return productMap(std::move(factors));
}

MapInterface ProductMapAttr::compose(MapInterface a, MapInterface b) {
  SmallVector<Attribute> factors;
  auto append = [&](MapInterface map) {
    if (!factors.empty() &&
        cast<MapInterface>(factors.back()).getInverse() == map)
      factors.pop_back();
    else
      factors.push_back(map);
  };
  for (MapInterface map : {a, b}) {
    if (auto product = dyn_cast<ProductMapAttr>(map)) {
      for (Attribute factor : product.getFactors())
        append(cast<MapInterface>(factor));
      continue;
    }
    append(map);
  }
  if (factors.empty())
    return {};
  if (factors.size() == 1)
    return cast<MapInterface>(factors.front());
  return ProductMapAttr::get(a.getContext(), factors);
}
