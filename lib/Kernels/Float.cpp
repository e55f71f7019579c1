//===- Float.cpp - Float rows times a packed weight -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The order of sums is the same in both kernels. A step of a block (or a group
// that is shorter) is one chain of FMAs over ascending positions: short enough
// for the next one to begin before it ends. The sums of the steps of a group
// (of the row, where a row has one scale) are added in order; that of a group
// is scaled and added to that of the row. Formats without scales are one chain
// over all of K.
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace quench;

namespace {

/// Bytes of one position (column) of a panel of floats.
constexpr int64_t kColumnBytes = kPassRows * 4;

/// What both kernels share: decoding, and the end of a segment.
class FloatKernel {
public:
  FloatKernel(Emitter &e, const KernelShape &s, Block &entry)
      : e(e), s(s), w(entry.getArgument(0)), wOffset(entry.getArgument(1)),
        x(entry.getArgument(2)), sums(entry.getArgument(4)),
        y(entry.getArgument(5)) {}

protected:
  /// Where the function begins.
  void start() {
    unit = unitScale(e, s.format, w, wOffset);
    if (s.stream.tailOffset >= 0)
      exponents.emplace(e, s.stream, w, wOffset);
  }
  /// Where pass `pass` begins.
  Value startPass(Value pass) {
    for (int64_t h = 0; exponents && h < kPassBlocks; ++h)
      exponents->begin(pass, h);
    return passBase(e, s, wOffset, pass);
  }

  /// Before the row blocks of a step are decoded.
  void readExponents() {
    if (exponents)
      exponents->readAhead(s.layout.stepColumns);
  }

  /// The floats of the step at byte `offset` of a block, by column.
  SmallVector<Value> decode(Value base, int64_t offset, int64_t h,
                            FetchAhead &fetch) {
    QKRegisterBuilder builder(e, s.layout, w, base, tableOf(e, s, wOffset), h,
                              &fetch, exponents ? &*exponents : nullptr);
    SmallVector<FloatPlane> planes;
    s.format.decodeFloatStep(builder, offset, planes);
    SmallVector<Value> columns(s.layout.stepColumns);
    for (const FloatPlane &plane : planes)
      columns[plane.column] = QKRegisterBuilder::value(plane.value);
    return columns;
  }

  Value scaleOf(Value base, int64_t g, int64_t h) {
    return loadGroupScales(e, s, w, base, g, h);
  }
  /// The negated zero points of 16 rows.
  Value zeroOf(Value base, int64_t g, int64_t h) {
    Value z = loadZeros(e, s, w, base, g, h);
    if (s.format.hasFloatZero())
      return arith::NegFOp::create(e.b, e.loc, z);
    return e.toFloat(arith::SubIOp::create(e.b, e.loc, e.splat(0), z));
  }
  /// Zero points belong to whole rows.
  bool hasRowZeros() const { return s.zero && !s.grouped; }

  /// Scales the finished rows of a pass and stores them. `sumAt`: where the sum
  /// of the activations lies, for zero points of rows.
  void storePass(Value base, Value row, Value yRow, ArrayRef<Value> ys,
                 Value sumAt) {
    Value sum;
    if (hasRowZeros())
      sum = e.broadcast(e.load(sums, sumAt), e.floats);
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value v = ys[h];
      if (sum)
        v = e.fma(zeroOf(base, 0, h), sum, v);
      if (unit)
        v = e.mulFloat(v, e.broadcast(unit, e.floats));
      if (s.rowScales)
        v = e.mulFloat(v, loadRowScales(e, s, w, base, h));
      Value at = e.add(row, h * kBlockRows);
      storeRows(e, s.spec, v, y, yRow ? e.add(yRow, at) : at, at);
    }
  }

  int64_t chainColumns() const {
    int64_t step = s.layout.stepColumns, chain = step % 32 ? step : step / 2;
    return s.grouped ? std::min(s.layout.groupColumns, chain) : chain;
  }

  Emitter &e;
  const KernelShape &s;
  Value w, wOffset, x, sums, y;
  Value unit; // null: 1
  std::optional<ExponentStreams> exponents;
};

class GemvFloat : FloatKernel {
public:
  GemvFloat(Emitter &e, const KernelShape &s, Block &entry)
      : FloatKernel(e, s, entry), lo(entry.getArgument(6)),
        hi(entry.getArgument(7)) {}

  void emit() {
    start();
    e.loop(lo, hi, 1, [&](Value pass) {
      Value base = startPass(pass);
      e.keepRolled = true;
      Emitter::Values ys = s.grouped ? groupScaled(base) : ungrouped(base);
      e.keepRolled = false;
      storePass(base, e.mul(pass, kPassRows), Value(), ys, e.index(0));
    });
  }

private:
  Emitter::Values zeros() {
    return Emitter::Values(kPassBlocks, e.splatFloat(0));
  }

  /// Adds columns first.. of decoded planes to the chains of both row blocks.
  void addColumns(ArrayRef<SmallVector<Value>> planes, Value xBase,
                  int64_t first, int64_t count, Emitter::Values &accs) {
    for (int64_t c = first; c < first + count; ++c) {
      Value xv = e.broadcast(e.load(x, e.add(xBase, c)), e.floats);
      for (int64_t h = 0; h < kPassBlocks; ++h)
        accs[h] = e.fma(planes[h][c], xv, accs[h]);
    }
  }

  /// Adds the sums of the chains of columns first.. to `totals`.
  void addChains(ArrayRef<SmallVector<Value>> planes, Value xBase,
                 int64_t first, int64_t count, Emitter::Values &totals) {
    int64_t length = chainColumns();
    for (int64_t c = first; c < first + count; c += length) {
      Emitter::Values accs = zeros();
      addColumns(planes, xBase, c, length, accs);
      for (int64_t h = 0; h < kPassBlocks; ++h)
        totals[h] = e.addFloat(totals[h], accs[h]);
    }
  }

  /// Adds one step to `totals`: by its chains, or to the only chain.
  void addStep(Value base, Value xBase, int64_t offset,
               Emitter::Values &totals) {
    SmallVector<Value> planes[kPassBlocks];
    FetchAhead fetch(e, w, base, s.spec.prefetch);
    readExponents();
    for (int64_t h = 0; h < kPassBlocks; ++h)
      planes[h] = decode(base, offset, h, fetch);
    fetch.emit();
    if (s.grouped || s.rowScales)
      addChains(planes, xBase, 0, s.layout.stepColumns, totals);
    else
      addColumns(planes, xBase, 0, s.layout.stepColumns, totals);
  }

  /// A row with one scale or none.
  Emitter::Values ungrouped(Value base) {
    return e.loop(0, s.stream.blocks, 1, zeros(), [&](Value i, ValueRange in) {
      Emitter::Values next(in);
      Value block = e.add(base, e.mul(i, s.blockBytes()));
      Value xBase = e.mul(i, s.layout.columns);
      addStep(block, xBase, s.layout.stepOffsets[0], next);
      return next;
    });
  }

  void finish(Value base, Value block, int64_t g, ArrayRef<Value> totals,
              Emitter::Values &ys) {
    Value sum;
    if (s.zero)
      sum = e.broadcast(e.load(sums, e.add(e.mul(block, s.blockGroups), g)),
                        e.floats);
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value total = totals[h];
      if (s.zero)
        total = e.fma(zeroOf(base, g, h), sum, total);
      ys[h] = e.fma(total, scaleOf(base, g, h), ys[h]);
    }
  }

  /// Group g of a block: some steps.
  void group(Value base, Value xBase, Value i, int64_t g, Emitter::Values &ys) {
    int64_t first = g * s.groupSteps, offset = s.layout.stepOffsets[first];
    Value xGroup = e.add(xBase, first * s.layout.stepColumns);
    Emitter::Values totals = zeros();
    if (s.groupSteps == 1)
      addStep(base, xGroup, offset, totals);
    else
      totals = e.loop(0, s.groupSteps, 1, totals, [&](Value j, ValueRange in) {
        Emitter::Values next(in);
        addStep(e.add(base, e.mul(j, s.stepStride())),
                e.add(xGroup, e.mul(j, s.layout.stepColumns)), offset, next);
        return next;
      });
    finish(base, i, g, totals, ys);
  }

  /// Several groups share the one step of a block.
  void groupsOfStep(Value base, Value xBase, Value i, Emitter::Values &ys) {
    SmallVector<Value> planes[kPassBlocks];
    FetchAhead fetch(e, w, base, s.spec.prefetch);
    readExponents();
    for (int64_t h = 0; h < kPassBlocks; ++h)
      planes[h] = decode(base, s.layout.stepOffsets[0], h, fetch);
    fetch.emit();
    for (int64_t g = 0; g < s.blockGroups; ++g) {
      Emitter::Values totals = zeros();
      int64_t columns = s.layout.groupColumns;
      addChains(planes, xBase, g * columns, columns, totals);
      finish(base, i, g, totals, ys);
    }
  }

  Emitter::Values groupScaled(Value base0) {
    return e.loop(0, s.stream.blocks, 1, zeros(), [&](Value i, ValueRange in) {
      Emitter::Values ys(in);
      Value base = e.add(base0, e.mul(i, s.blockBytes()));
      Value xBase = e.mul(i, s.layout.columns);
      if (s.groupQuads < s.stepQuads)
        groupsOfStep(base, xBase, i, ys);
      else
        for (int64_t g = 0; g < s.blockGroups; ++g)
          group(base, xBase, i, g, ys);
      return ys;
    });
  }

  Value lo, hi;
};

class GemmFloat : FloatKernel {
public:
  GemmFloat(Emitter &e, const KernelShape &s, Block &entry)
      : FloatKernel(e, s, entry), yStride(entry.getArgument(6)),
        scratch(entry.getArgument(7)), m(entry.getArgument(8)),
        lo(entry.getArgument(9)), hi(entry.getArgument(10)),
        direct(isPanel(s)) {
    scaleAt = direct ? 0 : s.stream.paddedCols * kColumnBytes;
    zeroAt = scaleAt + s.groups * kColumnBytes;
  }

  void emit() {
    start();
    e.loop(lo, hi, 1, [&](Value pass) {
      Value base = startPass(pass);
      if (!direct || s.grouped)
        decodePanel(base);
      Value row = e.mul(pass, kPassRows);
      e.loop(e.index(0), m, s.tileRows,
             [&](Value first) { tile(base, row, first); });
    });
  }

  /// Floats that lie in the stream as they would in a panel.
  static bool isPanel(const KernelShape &s) {
    if (s.grouped || s.blockBytes() != s.layout.columns * kColumnBytes)
      return false;
    ProbeRegisterBuilder probe;
    SmallVector<FloatPlane> planes;
    s.format.decodeFloatStep(probe, s.layout.stepOffsets[0], planes);
    for (const FloatPlane &plane : planes) {
      int64_t from = probe.loadedFrom(plane.value.handle);
      for (int64_t h = 0; h < kPassBlocks; ++h)
        if (from < 0 || interleavedOffset(s.layout, h, from) !=
                            plane.column * kColumnBytes + 64 * h)
          return false;
    }
    return true;
  }

private:
  void storeFloats(Value v, Value at) {
    e.storeVector(e.bitcast(v, e.bytes), scratch, at);
  }

  void storeStep(Value base, Value panel, int64_t offset) {
    FetchAhead fetch(e, w, base, s.spec.prefetch);
    readExponents();
    for (int64_t h = 0; h < kPassBlocks; ++h)
      for (auto [c, v] : llvm::enumerate(decode(base, offset, h, fetch)))
        storeFloats(v, e.add(panel, c * kColumnBytes + 64 * h));
    fetch.emit();
  }

  void decodePanel(Value base0) {
    int64_t stepBytes = s.layout.stepColumns * kColumnBytes;
    e.loop(e.index(0), e.index(s.stream.blocks), 1, [&](Value i) {
      Value base = e.add(base0, e.mul(i, s.blockBytes()));
      Value panel = e.mul(i, s.layout.columns * kColumnBytes);
      bool looped = s.groupSteps > kUnrolledSteps;
      for (int64_t j = 0; !looped && j < s.blockSteps; ++j)
        storeStep(base, e.add(panel, j * stepBytes), s.layout.stepOffsets[j]);
      for (int64_t g = 0; looped && g < s.blockGroups; ++g)
        e.loop(e.index(0), e.index(s.groupSteps), 1, [&](Value j) {
          Value to = e.add(panel, g * s.groupSteps * stepBytes);
          storeStep(e.add(base, e.mul(j, s.stepStride())),
                    e.add(to, e.mul(j, stepBytes)),
                    s.layout.stepOffsets[g * s.groupSteps]);
        });
      for (int64_t g = 0; s.grouped && g < s.blockGroups; ++g)
        for (int64_t h = 0; h < kPassBlocks; ++h) {
          Value to = e.add(e.mul(i, s.blockGroups * kColumnBytes),
                           g * kColumnBytes + h * 64);
          storeFloats(scaleOf(base, g, h), e.add(to, scaleAt));
          if (s.zero)
            storeFloats(zeroOf(base, g, h), e.add(to, zeroAt));
        }
    });
  }

  /// One position: kPassBlocks registers of weights times tileRows floats.
  void column(Value weights, Value at, Value xAt, Emitter::Values &accs) {
    Value regs[kPassBlocks];
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value place = e.add(at, 64 * h);
      if (direct && s.spec.prefetch)
        e.prefetch(weights, e.add(place, kPrefetchDistance));
      regs[h] = e.loadBytesAs(weights, place, e.floats);
    }
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value xv = e.broadcast(e.load(x, e.add(xAt, i)), e.floats);
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value &acc = accs[i * kPassBlocks + h];
        acc = e.fma(regs[h], xv, acc);
      }
    }
  }

  Emitter::Values zeros() {
    return Emitter::Values(s.tileRows * kPassBlocks, e.splatFloat(0));
  }

  /// The only chain of a row without scales.
  Emitter::Values oneChain(Value weights, Value at, Value xRow) {
    int64_t columns = s.stream.paddedCols, unroll = columns % 4 ? 1 : 4;
    return e.loop(0, columns, unroll, zeros(), [&](Value c, ValueRange in) {
      Emitter::Values next(in);
      Value from = e.add(at, e.mul(c, kColumnBytes));
      Value xFrom = e.add(xRow, e.mul(c, s.tileRows));
      for (int64_t u = 0; u < unroll; ++u)
        column(weights, e.add(from, u * kColumnBytes),
               e.add(xFrom, u * s.tileRows), next);
      return next;
    });
  }

  /// `n` neighbouring chains side by side: more of them than a tile has sums
  /// are needed to hide the latency. Chain i is columns i * length on.
  SmallVector<Emitter::Values> chains(Value i, int64_t n, Value xRow) {
    int64_t length = chainColumns(), unroll = length % 2 ? 1 : 2;
    int64_t size = s.tileRows * kPassBlocks;
    Emitter::Values inits(n * size, e.splatFloat(0));
    Value at = e.mul(i, length * kColumnBytes);
    Value xAt = e.add(xRow, e.mul(i, length * s.tileRows));
    Emitter::Values flat =
        e.loop(0, length, unroll, inits, [&](Value c, ValueRange in) {
          Emitter::Values all;
          Value from = e.add(at, e.mul(c, kColumnBytes));
          Value xFrom = e.add(xAt, e.mul(c, s.tileRows));
          for (int64_t k = 0; k < n; ++k) {
            ValueRange mine = in.slice(k * size, size);
            Emitter::Values next(mine.begin(), mine.end());
            for (int64_t u = 0; u < unroll; ++u)
              column(scratch, e.add(from, (k * length + u) * kColumnBytes),
                     e.add(xFrom, (k * length + u) * s.tileRows), next);
            all.append(next);
          }
          return all;
        });
    SmallVector<Emitter::Values> result;
    for (int64_t k = 0; k < n; ++k)
      result.emplace_back(flat.begin() + k * size,
                          flat.begin() + (k + 1) * size);
    return result;
  }

  /// The sums of chains first..last, added to `totals` in order.
  Emitter::Values sumChains(Value first, Value last, int64_t n, Value xRow,
                            Emitter::Values totals) {
    return e.loop(first, last, n, totals, [&](Value i, ValueRange in) {
      Emitter::Values next(in);
      for (const Emitter::Values &chain : chains(i, n, xRow))
        for (auto [sum, value] : llvm::zip(next, chain))
          sum = e.addFloat(sum, value);
      return next;
    });
  }

  Emitter::Values rowScaled(Value xRow) {
    int64_t all = s.stream.paddedCols / chainColumns(), even = all / 2 * 2;
    Emitter::Values ys = sumChains(e.index(0), e.index(even), 2, xRow, zeros());
    if (even < all)
      ys = sumChains(e.index(even), e.index(all), 1, xRow, ys);
    return ys;
  }

  /// y += scale * (sum - zero * (sum of x)) of group g.
  void finish(Value first, Value g, ArrayRef<Value> sumsOfGroup,
              Emitter::Values &ys) {
    Value params = e.mul(g, kColumnBytes);
    Value scales[kPassBlocks], zero[kPassBlocks];
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value at = e.add(params, h * 64);
      scales[h] = e.loadBytesAs(scratch, e.add(at, scaleAt), e.floats);
      if (s.zero)
        zero[h] = e.loadBytesAs(scratch, e.add(at, zeroAt), e.floats);
    }
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value sum;
      if (s.zero)
        sum = e.broadcast(
            e.load(sums, e.add(e.mul(e.add(first, i), s.groups), g)), e.floats);
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        int64_t j = i * kPassBlocks + h;
        Value total = sumsOfGroup[j];
        if (s.zero)
          total = e.fma(zero[h], sum, total);
        ys[j] = e.fma(total, scales[h], ys[j]);
      }
    }
  }

  Emitter::Values groupScaled(Value first, Value xRow) {
    int64_t perGroup = s.layout.groupColumns / chainColumns();
    if (perGroup > 1)
      return e.loop(0, s.groups, 1, zeros(), [&](Value g, ValueRange in) {
        Emitter::Values ys(in);
        Value from = e.mul(g, perGroup);
        Emitter::Values totals = sumChains(from, e.add(from, perGroup),
                                           perGroup % 2 ? 1 : 2, xRow, zeros());
        finish(first, g, totals, ys);
        return ys;
      });
    auto groups = [&](Value g, int64_t n, Emitter::Values &ys) {
      SmallVector<Emitter::Values> totals = chains(g, n, xRow);
      for (int64_t k = 0; k < n; ++k)
        finish(first, e.add(g, k), totals[k], ys);
    };
    int64_t even = s.groups / 2 * 2;
    Emitter::Values ys =
        e.loop(0, even, 2, zeros(), [&](Value g, ValueRange in) {
          Emitter::Values next(in);
          groups(g, 2, next);
          return next;
        });
    if (even < s.groups)
      groups(e.index(even), 1, ys);
    return ys;
  }

  void tile(Value base, Value row, Value first) {
    Value xRow = e.mul(first, s.stream.paddedCols);
    Emitter::Values ys;
    if (s.grouped)
      ys = groupScaled(first, xRow);
    else if (s.rowScales)
      ys = rowScaled(xRow);
    else
      ys = oneChain(direct ? w : scratch, direct ? base : e.index(0), xRow);
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value mi = e.add(first, i);
      e.when(e.less(mi, m), [&] {
        storePass(base, row, e.mul(mi, yStride),
                  ArrayRef<Value>(ys).slice(i * kPassBlocks, kPassBlocks), mi);
      });
    }
  }

  Value yStride, scratch, m, lo, hi;
  bool direct;
  int64_t scaleAt, zeroAt;
};

} // namespace

void quench::emitGemvFloat(Emitter &e, const KernelShape &s, Block &entry) {
  GemvFloat(e, s, entry).emit();
}

void quench::emitGemmFloat(Emitter &e, const KernelShape &s, Block &entry) {
  GemmFloat(e, s, entry).emit();
}
