//===- Stage.cpp - Activations as the contractions want them --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Positions of a staged row are done in chunks of 16 where they follow a
// pattern that repeats (identity, or a permutation in each block), and four at
// a time by a table of columns elsewhere: the ragged end, odd groups.
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench;

namespace {

/// The order of a staged row, and how much of it repeats.
struct StagedOrder {
  std::vector<int32_t> columns; // of each position; -1: padding
  SmallVector<int64_t> pattern; // of one period, a multiple of 16
  int64_t regular = 0;          // leading positions that follow the pattern
  int64_t group = 0;            // positions of a group; all without groups

  StagedOrder(const Format &format, int64_t k)
      : columns(stagedOrder(format, k)) {
    const BlockLayout &layout = format.layout();
    int64_t all = columns.size();
    group = layout.groupColumns ? layout.groupColumns : all;
    if (layout.xOrder.empty())
      for (int64_t i = 0; i < 16; ++i)
        pattern.push_back(i);
    else
      pattern.assign(layout.xOrder.begin(), layout.xOrder.end());
    int64_t period = pattern.size();
    bool whole =
        period % 16 == 0 && (!layout.groupColumns || group % period == 0);
    for (int64_t j = 0; whole && j < period; j += 16)
      whole = sources(j).size() <= 2;
    if (!whole)
      return;
    int64_t unit = layout.groupColumns ? group : period;
    while (regular + unit <= all && follows(regular, unit))
      regular += unit;
  }

  /// The aligned runs of 16 columns that positions j..j+15 of a period need.
  SmallVector<int64_t> sources(int64_t j) const {
    SmallVector<int64_t> runs;
    for (int64_t i = j; i < j + 16; ++i)
      if (!llvm::is_contained(runs, pattern[i] / 16))
        runs.push_back(pattern[i] / 16);
    return runs;
  }

private:
  bool follows(int64_t first, int64_t count) const {
    int64_t period = pattern.size();
    for (int64_t p = first; p < first + count; ++p)
      if (columns[p] != p / period * period + pattern[p % period])
        return false;
    return true;
  }
};

/// What the sums of a stage are multiplied by; 0: there are none.
int64_t sumFactor(const Format &format, bool integer) {
  if (format.hasZeroPoint())
    return integer ? -1 : 1;
  return integer ? -format.bias() : 0;
}

class Stage {
public:
  Stage(Emitter &e, const StageSpec &spec, Block &entry)
      : e(e), spec(spec), order(*spec.format, spec.k), tile(spec.tileRows()),
        factor(sumFactor(*spec.format, spec.integer)),
        input(entry.getArgument(0)), x(entry.getArgument(1)),
        scale(entry.getArgument(2)), sums(entry.getArgument(3)),
        m(entry.getArgument(4)), lo(entry.getArgument(5)),
        hi(entry.getArgument(6)) {}

  void emit() {
    if (order.regular < int64_t(order.columns.size()))
      table = makeTable();
    e.loop(lo, hi, 1, [&](Value t) {
      Value first = e.mul(t, tile);
      rows.clear();
      inverse.clear();
      sumAt.clear();
      for (int64_t i = 0; i < tile; ++i) {
        // Rows past the end repeat the last one; nobody reads them.
        Value row = e.add(first, i);
        Value last = e.add(m, -1);
        Value from = arith::MinSIOp::create(e.b, e.loc, row, last);
        rows.push_back(e.mul(from, spec.k));
        sumAt.push_back(e.mul(row, groups()));
        if (spec.integer)
          inverse.push_back(scaleRow(rows.back(), row));
      }
      xRow = e.mul(first, wordsPerRow());
      stageRows();
    });
  }

private:
  using Vectors = SmallVector<Value>;

  int64_t groups() const { return order.columns.size() / order.group; }
  /// 32-bit elements of a staged row.
  int64_t wordsPerRow() const {
    return order.columns.size() / (spec.integer ? 4 : 1);
  }
  VectorType vec(int64_t n, Type type) { return VectorType::get({n}, type); }
  VectorType floats(int64_t n) { return vec(n, e.b.getF32Type()); }
  VectorType words(int64_t n) { return vec(n, e.b.getI32Type()); }
  Value constant(DenseElementsAttr attr) {
    return arith::ConstantOp::create(e.b, e.loc, attr);
  }
  Value zeros(VectorType type) {
    return arith::ConstantOp::create(e.b, e.loc, e.b.getZeroAttr(type));
  }

  /// The columns of the positions after the regular ones.
  Value makeTable() {
    auto module =
        e.b.getInsertionBlock()->getParentOp()->getParentOfType<ModuleOp>();
    ArrayRef<int32_t> rest =
        ArrayRef<int32_t>(order.columns).drop_front(order.regular);
    auto type = MemRefType::get({int64_t(rest.size())}, e.b.getI32Type());
    auto tensor = RankedTensorType::get(type.getShape(), e.b.getI32Type());
    std::string name = "order_" + spec.key();
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(e.b);
      e.b.setInsertionPointToStart(module.getBody());
      memref::GlobalOp::create(e.b, e.loc, name, e.b.getStringAttr("private"),
                               type, DenseElementsAttr::get(tensor, rest), true,
                               e.b.getI64IntegerAttr(64));
    }
    return memref::GetGlobalOp::create(e.b, e.loc, type, name);
  }

  Value maximum(Value a, Value b) {
    return arith::MaximumFOp::create(e.b, e.loc, a, b,
                                     arith::FastMathFlags::nnan);
  }
  Value magnitude(Value v) { return math::AbsFOp::create(e.b, e.loc, v); }

  /// Stores absmax / 127 of a row; returns 127 / absmax.
  Value scaleRow(Value from, Value row) {
    int64_t k = spec.k, main = k / 64 * 64;
    Emitter::Values accs(4, e.splatFloat(0));
    accs = e.loop(0, main, 64, accs, [&](Value c, ValueRange in) {
      Emitter::Values next(in);
      for (int64_t u = 0; u < 4; ++u)
        next[u] = maximum(next[u],
                          magnitude(e.loadVector(
                              input, e.add(e.add(from, c), 16 * u), e.floats)));
      return next;
    });
    for (int64_t c = main; c < k; c += 16) {
      Value at = e.add(from, c), v;
      if (c + 16 <= k) {
        v = e.loadVector(input, at, e.floats);
      } else {
        SmallVector<bool> use(16, false);
        std::fill_n(use.begin(), k - c, true);
        Value mask =
            constant(DenseElementsAttr::get(vec(16, e.b.getI1Type()), use));
        v = vector::MaskedLoadOp::create(e.b, e.loc, e.floats, input,
                                         ValueRange{at}, mask, e.splatFloat(0));
      }
      Value &acc = accs[c / 16 % 4];
      acc = maximum(acc, magnitude(v));
    }
    Value all = maximum(maximum(accs[0], accs[1]), maximum(accs[2], accs[3]));
    for (int64_t d = 8; d >= 1; d /= 2)
      all = maximum(all, e.shuffle(all, all, swapped(16, d)));
    Value most =
        vector::ExtractOp::create(e.b, e.loc, all, ArrayRef<int64_t>{0});
    most = maximum(most, e.scalarFloat(1e-30f));
    Value limit = e.scalarFloat(127.0f);
    e.store(arith::DivFOp::create(e.b, e.loc, most, limit), scale, row);
    return arith::DivFOp::create(e.b, e.loc, limit, most);
  }

  static SmallVector<int64_t> swapped(int64_t n, int64_t distance) {
    SmallVector<int64_t> lanes;
    for (int64_t i = 0; i < n; ++i)
      lanes.push_back(i ^ distance);
    return lanes;
  }

  /// All lanes added, in a fixed order.
  Value reduce(Value v) {
    auto type = cast<VectorType>(v.getType());
    bool integer = type.getElementType().isInteger(32);
    for (int64_t d = type.getNumElements() / 2; d >= 1; d /= 2) {
      Value other = e.shuffle(v, v, swapped(type.getNumElements(), d));
      v = integer ? e.addInt(v, other) : e.addFloat(v, other);
    }
    return vector::ExtractOp::create(e.b, e.loc, v, ArrayRef<int64_t>{0});
  }

  /// One vector of the row-wise interleaved lanes of several: [lane][row].
  Value interleave(Vectors parts, int64_t lanes) {
    for (int64_t run = 1; parts.size() > 1; run *= 2) {
      Vectors next;
      SmallVector<int64_t> pick;
      for (int64_t lane = 0; lane < lanes; ++lane)
        for (int64_t side = 0; side < 2; ++side)
          for (int64_t i = 0; i < run; ++i)
            pick.push_back(side * lanes * run + lane * run + i);
      for (size_t i = 0; i < parts.size(); i += 2)
        next.push_back(e.shuffle(parts[i], parts[i + 1], pick));
      parts = next;
    }
    return parts[0];
  }

  /// Quantizes and stores a chunk of all rows from position p on; adds it to
  /// the sums of the rows.
  void finish(Value p, const Vectors &values, Emitter::Values &accs) {
    int64_t n = cast<VectorType>(values[0].getType()).getNumElements();
    Vectors parts;
    for (auto [i, v] : llvm::enumerate(values)) {
      Value part = v;
      if (spec.integer) {
        auto codes = vec(n, e.b.getI8Type());
        Value q = qk::QuantizeOp::create(e.b, e.loc, codes, v, inverse[i]);
        part = e.bitcast(q, words(n / 4));
        if (factor)
          accs[i] = e.addInt(accs[i],
                             arith::ExtSIOp::create(e.b, e.loc, words(n), q));
      } else if (factor) {
        accs[i] = e.addFloat(accs[i], v);
      }
      parts.push_back(part);
    }
    Value unit = p;
    if (spec.integer)
      unit = arith::DivUIOp::create(e.b, e.loc, p, e.index(4));
    e.storeVector(interleave(parts, spec.integer ? n / 4 : n), x,
                  e.add(xRow, e.mul(unit, tile)));
  }

  /// Positions p.. of one period that follows the pattern.
  void regularPeriod(Value p, Emitter::Values &accs) {
    for (int64_t j = 0; j < int64_t(order.pattern.size()); j += 16) {
      Vectors values;
      SmallVector<int64_t> runs = order.sources(j), pick;
      bool plain = true;
      for (int64_t i = 0; i < 16; ++i) {
        int64_t column = order.pattern[j + i];
        bool second = column / 16 != runs[0];
        pick.push_back(second * 16 + column % 16);
        plain &= pick.back() == i;
      }
      for (Value row : rows) {
        Vectors from;
        for (int64_t run : runs)
          from.push_back(
              e.loadVector(input, e.add(e.add(row, p), 16 * run), e.floats));
        values.push_back(plain ? from[0]
                               : e.shuffle(from.front(), from.back(), pick));
      }
      finish(e.add(p, j), values, accs);
    }
  }

  /// Four positions by the table.
  void tableChunk(Value p, Emitter::Values &accs) {
    Value columns = e.loadVector(table, e.add(p, -order.regular), words(4));
    Value used = arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::sge,
                                       columns, zeros(words(4)));
    Vectors values;
    for (Value row : rows)
      values.push_back(vector::GatherOp::create(e.b, e.loc, floats(4), input,
                                                ValueRange{row}, columns, used,
                                                zeros(floats(4))));
    finish(p, values, accs);
  }

  Emitter::Values sumsOf(int64_t lanes) {
    if (!factor)
      return {};
    auto type = spec.integer ? words(lanes) : floats(lanes);
    return Emitter::Values(tile, zeros(type));
  }

  /// Scalars of the lanes, added to `before` if given.
  Emitter::Values reduceAll(const Emitter::Values &accs,
                            const Emitter::Values &before) {
    Emitter::Values result;
    for (auto [i, acc] : llvm::enumerate(accs)) {
      Value sum = reduce(acc);
      if (!before.empty())
        sum = spec.integer ? e.addInt(before[i], sum)
                           : e.addFloat(before[i], sum);
      result.push_back(sum);
    }
    return result;
  }

  void storeSums(Value group, const Emitter::Values &values) {
    for (auto [i, value] : llvm::enumerate(values)) {
      Value v = value;
      if (spec.integer && factor != 1)
        v = e.mulInt(v, arith::ConstantOp::create(
                            e.b, e.loc, e.b.getI32IntegerAttr(factor)));
      e.store(v, sums, e.add(sumAt[i], group));
    }
  }

  Emitter::Values regularRange(Value from, Value to) {
    int64_t period = order.pattern.size();
    Emitter::Values accs =
        e.loop(from, to, period, sumsOf(16), [&](Value p, ValueRange in) {
          Emitter::Values next(in);
          regularPeriod(p, next);
          return next;
        });
    return reduceAll(accs, {});
  }

  Emitter::Values tableRange(Value from, Value to,
                             const Emitter::Values &before) {
    Emitter::Values accs =
        e.loop(from, to, 4, sumsOf(4), [&](Value p, ValueRange in) {
          Emitter::Values next(in);
          tableChunk(p, next);
          return next;
        });
    return reduceAll(accs, before);
  }

  void stageRows() {
    int64_t all = order.columns.size(), regular = order.regular;
    if (order.group == all) {
      Emitter::Values total;
      if (regular)
        total = regularRange(e.index(0), e.index(regular));
      if (regular < all)
        total = tableRange(e.index(regular), e.index(all), total);
      storeSums(e.index(0), total);
      return;
    }
    int64_t group = order.group;
    if (regular)
      e.loop(e.index(0), e.index(regular / group), 1, [&](Value g) {
        Value from = e.mul(g, group);
        storeSums(g, regularRange(from, e.add(from, group)));
      });
    if (regular < all)
      e.loop(e.index(regular / group), e.index(all / group), 1, [&](Value g) {
        Value from = e.mul(g, group);
        storeSums(g, tableRange(from, e.add(from, group), {}));
      });
  }

  Emitter &e;
  const StageSpec &spec;
  StagedOrder order;
  int64_t tile, factor;
  Value input, x, scale, sums, m, lo, hi, table, xRow;
  Vectors rows, inverse, sumAt;
};

} // namespace

std::string StageSpec::key() const {
  StagedOrder order(*format, k);
  uint64_t hash = 0xcbf29ce484222325;
  for (int32_t column : order.columns)
    hash = (hash ^ uint32_t(column)) * 0x100000001b3;
  std::string name = (Twine(integer ? "a8" : "f32") + "_" + Twine(k) + "_" +
                      llvm::utohexstr(hash, true) + "_t" + Twine(tileRows()))
                         .str();
  if (int64_t factor = sumFactor(*format, integer))
    name += ("_g" + Twine(order.group) + "_s" + (factor < 0 ? "m" : "") +
             Twine(std::abs(factor)))
                .str();
  return name;
}

int64_t StageSpec::tileRows() const {
  return tileRowsOf(*format, integer, tiled);
}

bool StageSpec::isNoop() const {
  if (integer || tiled || format->hasZeroPoint())
    return false;
  StagedOrder order(*format, k);
  return int64_t(order.columns.size()) == k && order.regular == k &&
         format->layout().xOrder.empty();
}

int64_t StageSpec::paddedRows(int64_t m) const {
  return llvm::alignTo(m, tileRows());
}

int64_t StageSpec::xElements(int64_t m) const {
  int64_t positions = stagedOrder(*format, k).size();
  return paddedRows(m) * (integer ? positions / 4 : positions);
}

int64_t StageSpec::scaleElements(int64_t m) const {
  return integer ? paddedRows(m) : 0;
}

int64_t StageSpec::sumElements(int64_t m) const {
  if (!sumFactor(*format, integer))
    return 0;
  int64_t positions = stagedOrder(*format, k).size();
  int64_t group = format->layout().groupColumns;
  return paddedRows(m) * (group ? positions / group : 1);
}

func::FuncOp quench::getOrCreateStage(ModuleOp module, const StageSpec &spec) {
  OpBuilder b(module.getContext());
  Type f32 = b.getF32Type(), i32 = b.getI32Type(), index = b.getIndexType();
  Type element = spec.integer ? i32 : f32;
  bool made;
  auto function = makeKernel(
      module, "stage_" + spec.key(),
      {flat(f32), flat(element), flat(f32), flat(element), index, index, index},
      made);
  if (!made)
    return function;
  Block &entry = function.front();
  b.setInsertionPointToStart(&entry);
  Emitter e(b, module.getLoc());
  Stage(e, spec, entry).emit();
  func::ReturnOp::create(b, module.getLoc());
  return function;
}
