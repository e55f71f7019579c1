//===- Float.cpp - Float rows times a packed weight -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The order of sums is the same in both kernels. A segment (a group; some
// blocks where a row has one scale) is one chain of FMAs over ascending
// positions; its sum is scaled and added to that of the row, segment after
// segment. Formats without scales are one chain over all of K.
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
  /// The floats of the step at byte `offset` of a block, by column.
  SmallVector<Value> decode(Value base, int64_t offset, int64_t h) {
    QKRegisterBuilder builder(e, s.layout, w, base, h, s.spec.prefetch);
    SmallVector<FloatPlane> planes;
    s.format.decodeFloatStep(builder, offset, planes);
    SmallVector<Value> columns(s.layout.stepColumns);
    for (const FloatPlane &plane : planes)
      columns[plane.column] = QKRegisterBuilder::value(plane.value);
    return columns;
  }

  Value scaleOf(Value base, int64_t g, int64_t h) {
    int64_t at = interleavedOffset(s.layout, h, s.layout.scaleOffset(g));
    return e.loadHalves(w, e.add(base, at));
  }
  /// The negated zero points of 16 rows.
  Value zeroOf(Value base, int64_t g, int64_t h) {
    int64_t at = interleavedOffset(s.layout, h, s.layout.zeroOffset(g));
    auto raw = VectorType::get({kBlockRows}, e.b.getI8Type());
    Value z = e.loadVector(w, e.add(base, at), raw);
    z = arith::ExtUIOp::create(e.b, e.loc, e.words, z);
    z = arith::SubIOp::create(e.b, e.loc, e.splat(0), z);
    return e.toFloat(z);
  }

  /// Scales the finished rows of a pass and stores them.
  void storePass(Value base, Value row, Value yRow, ArrayRef<Value> ys) {
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value v = ys[h];
      if (s.format.unit() != 1.0f)
        v = e.mulFloat(v, e.splatFloat(s.format.unit()));
      if (s.rowScales)
        v = e.mulFloat(v, e.loadHalves(w, e.add(base, s.stream.rowScaleOffset +
                                                          h * 2 * kBlockRows)));
      Value at = e.add(row, h * kBlockRows);
      storeRows(e, s.spec, v, y, yRow ? e.add(yRow, at) : at, at);
    }
  }

  /// Blocks of a segment of a row with one scale.
  int64_t segmentBlocks() const {
    return s.rowScales ? floatSegment(s.format) / s.layout.columns : 1;
  }

  Emitter &e;
  const KernelShape &s;
  Value w, wOffset, x, sums, y;
};

class GemvFloat : FloatKernel {
public:
  GemvFloat(Emitter &e, const KernelShape &s, Block &entry)
      : FloatKernel(e, s, entry), lo(entry.getArgument(6)),
        hi(entry.getArgument(7)) {}

  void emit() {
    e.loop(lo, hi, 1, [&](Value pass) {
      Value base = e.add(wOffset, e.mul(pass, s.stream.passBytes));
      Emitter::Values ys;
      if (s.grouped)
        ys = groupScaled(base);
      else if (s.rowScales)
        ys = rowScaled(base);
      else
        ys = oneChain(base);
      storePass(base, e.mul(pass, kPassRows), Value(), ys);
    });
  }

private:
  struct Start {
    Value base, x; // where a segment begins
  };

  /// Adds one step to the chains of several segments at once.
  void addStep(ArrayRef<Start> starts, int64_t offset, Emitter::Values &accs) {
    SmallVector<SmallVector<Value>> planes;
    for (const Start &start : starts)
      for (int64_t h = 0; h < kPassBlocks; ++h)
        planes.push_back(decode(start.base, offset, h));
    for (int64_t c = 0; c < s.layout.stepColumns; ++c)
      for (size_t u = 0; u < starts.size(); ++u) {
        Value xv = e.broadcast(e.load(x, e.add(starts[u].x, c)), e.floats);
        for (int64_t h = 0; h < kPassBlocks; ++h) {
          Value &acc = accs[u * kPassBlocks + h];
          acc = e.fma(planes[u * kPassBlocks + h][c], xv, acc);
        }
      }
  }

  Emitter::Values zeros(size_t n) {
    return Emitter::Values(n * kPassBlocks, e.splatFloat(0));
  }

  Emitter::Values oneChain(Value base) {
    return e.loop(0, s.stream.blocks, 1, zeros(1), [&](Value i, ValueRange in) {
      Emitter::Values accs(in);
      Start start{e.add(base, e.mul(i, s.blockBytes())),
                  e.mul(i, s.layout.columns)};
      addStep(start, s.layout.stepOffsets[0], accs);
      return accs;
    });
  }

  /// Segments of `blocks` blocks each, `n` of them side by side, from block
  /// `i` on; their sums are added to ys in order.
  void segments(Value base, Value i, int64_t n, int64_t blocks,
                Emitter::Values &ys) {
    Emitter::Values accs = zeros(n);
    for (int64_t j = 0; j < blocks; ++j) {
      SmallVector<Start> starts;
      for (int64_t u = 0; u < n; ++u) {
        Value block = e.add(i, u * blocks + j);
        starts.push_back({e.add(base, e.mul(block, s.blockBytes())),
                          e.mul(block, s.layout.columns)});
      }
      addStep(starts, s.layout.stepOffsets[0], accs);
    }
    for (int64_t j = 0; j < n * kPassBlocks; ++j)
      ys[j % kPassBlocks] = e.addFloat(ys[j % kPassBlocks], accs[j]);
  }

  Emitter::Values rowScaled(Value base) {
    int64_t blocks = segmentBlocks(), pair = 2 * blocks;
    int64_t even = s.stream.blocks / pair * pair;
    Emitter::Values ys =
        e.loop(0, even, pair, zeros(1), [&](Value i, ValueRange in) {
          Emitter::Values next(in);
          segments(base, i, 2, blocks, next);
          return next;
        });
    for (int64_t i = even; i < s.stream.blocks; i += blocks)
      segments(base, e.index(i), 1, std::min(blocks, s.stream.blocks - i), ys);
    return ys;
  }

  /// Group g of n neighbouring blocks.
  void group(ArrayRef<Start> blocks, Value i, int64_t g, Emitter::Values &ys) {
    size_t n = blocks.size();
    Emitter::Values accs = zeros(n);
    if (s.groupQuads < s.stepQuads)
      return; // handled by groupsOfStep
    auto at = [&](Value step, int64_t j) {
      SmallVector<Start> starts;
      for (const Start &block : blocks) {
        Start start{block.base, e.add(block.x, (g * s.groupSteps + j) *
                                                   s.layout.stepColumns)};
        if (step) {
          start.base = e.add(start.base, e.mul(step, s.stepStride()));
          start.x = e.add(start.x, e.mul(step, s.layout.stepColumns));
        }
        starts.push_back(start);
      }
      return starts;
    };
    int64_t first = g * s.groupSteps;
    if (s.groupSteps <= kUnrolledSteps) {
      for (int64_t j = 0; j < s.groupSteps; ++j)
        addStep(at(Value(), j), s.layout.stepOffsets[first + j], accs);
    } else {
      accs = e.loop(0, s.groupSteps, 1, accs, [&](Value j, ValueRange in) {
        Emitter::Values next(in);
        addStep(at(j, 0), s.layout.stepOffsets[first], next);
        return next;
      });
    }
    for (size_t u = 0; u < n; ++u)
      finish(blocks[u].base, e.add(i, u), g,
             ArrayRef<Value>(accs).slice(u * kPassBlocks, kPassBlocks), ys);
  }

  void finish(Value base, Value block, int64_t g, ArrayRef<Value> accs,
              Emitter::Values &ys) {
    Value sum;
    if (s.zero)
      sum = e.broadcast(e.load(sums, e.add(e.mul(block, s.blockGroups), g)),
                        e.floats);
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value acc = accs[h];
      if (s.zero)
        acc = e.fma(zeroOf(base, g, h), sum, acc);
      ys[h] = e.fma(acc, scaleOf(base, g, h), ys[h]);
    }
  }

  /// Several groups share the one step of a block.
  void groupsOfStep(const Start &start, Value i, Emitter::Values &ys) {
    SmallVector<Value> planes[kPassBlocks];
    for (int64_t h = 0; h < kPassBlocks; ++h)
      planes[h] = decode(start.base, s.layout.stepOffsets[0], h);
    for (int64_t g = 0; g < s.blockGroups; ++g) {
      Emitter::Values accs = zeros(1);
      for (int64_t c = 0; c < s.layout.groupColumns; ++c) {
        int64_t at = g * s.layout.groupColumns + c;
        Value xv = e.broadcast(e.load(x, e.add(start.x, at)), e.floats);
        for (int64_t h = 0; h < kPassBlocks; ++h)
          accs[h] = e.fma(planes[h][at], xv, accs[h]);
      }
      finish(start.base, i, g, accs, ys);
    }
  }

  Emitter::Values groupScaled(Value base) {
    bool shared = s.groupQuads < s.stepQuads;
    int64_t n = shared || s.blockGroups > 1 ? 1 : 2;
    int64_t even = s.stream.blocks / n * n;
    auto from = [&](Value i) {
      return Start{e.add(base, e.mul(i, s.blockBytes())),
                   e.mul(i, s.layout.columns)};
    };
    auto blocks = [&](Value i, int64_t n, Emitter::Values &ys) {
      SmallVector<Start> starts;
      for (int64_t u = 0; u < n; ++u)
        starts.push_back(from(e.add(i, u)));
      if (shared)
        return groupsOfStep(starts[0], i, ys);
      for (int64_t g = 0; g < s.blockGroups; ++g)
        group(starts, i, g, ys);
    };
    Emitter::Values ys =
        e.loop(0, even, n, zeros(1), [&](Value i, ValueRange in) {
          Emitter::Values next(in);
          blocks(i, n, next);
          return next;
        });
    if (even < s.stream.blocks)
      blocks(e.index(even), 1, ys);
    return ys;
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
    e.loop(lo, hi, 1, [&](Value pass) {
      Value base = e.add(wOffset, e.mul(pass, s.stream.passBytes));
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
    for (int64_t h = 0; h < kPassBlocks; ++h)
      for (auto [c, v] : llvm::enumerate(decode(base, offset, h)))
        storeFloats(v, e.add(panel, c * kColumnBytes + 64 * h));
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
    for (int64_t h = 0; h < kPassBlocks; ++h)
      regs[h] = e.loadBytesAs(weights, e.add(at, 64 * h), e.floats);
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value xv = e.broadcast(e.load(x, e.add(xAt, i)), e.floats);
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value &acc = accs[i * kPassBlocks + h];
        acc = e.fma(regs[h], xv, acc);
      }
    }
  }

  Emitter::Values chain(Value weights, Value at, Value xAt, int64_t columns,
                        Emitter::Values accs) {
    int64_t unroll = columns % 4 == 0 ? 4 : 1;
    return e.loop(0, columns, unroll, accs, [&](Value c, ValueRange in) {
      Emitter::Values next(in);
      Value from = e.add(at, e.mul(c, kColumnBytes));
      Value xFrom = e.add(xAt, e.mul(c, s.tileRows));
      for (int64_t u = 0; u < unroll; ++u)
        column(weights, e.add(from, u * kColumnBytes),
               e.add(xFrom, u * s.tileRows), next);
      return next;
    });
  }

  Emitter::Values zeros() {
    return Emitter::Values(s.tileRows * kPassBlocks, e.splatFloat(0));
  }

  Emitter::Values rowScaled(Value xRow) {
    int64_t length = floatSegment(s.format), all = s.stream.paddedCols;
    int64_t whole = all / length;
    auto segment = [&](Value i, int64_t columns, Emitter::Values &ys) {
      Emitter::Values accs =
          chain(scratch, e.mul(i, length * kColumnBytes),
                e.add(xRow, e.mul(i, length * s.tileRows)), columns, zeros());
      for (auto [sum, acc] : llvm::zip(ys, accs))
        sum = e.addFloat(sum, acc);
    };
    Emitter::Values ys =
        e.loop(0, whole, 1, zeros(), [&](Value i, ValueRange in) {
          Emitter::Values next(in);
          segment(i, length, next);
          return next;
        });
    if (all % length)
      segment(e.index(whole), all % length, ys);
    return ys;
  }

  Emitter::Values groupScaled(Value first, Value xRow) {
    int64_t columns = s.layout.groupColumns;
    return e.loop(0, s.groups, 1, zeros(), [&](Value g, ValueRange in) {
      Emitter::Values ys(in);
      Emitter::Values accs =
          chain(scratch, e.mul(g, columns * kColumnBytes),
                e.add(xRow, e.mul(g, columns * s.tileRows)), columns, zeros());
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
              e.load(sums, e.add(e.mul(e.add(first, i), s.groups), g)),
              e.floats);
        for (int64_t h = 0; h < kPassBlocks; ++h) {
          int64_t j = i * kPassBlocks + h;
          Value acc = s.zero ? e.fma(zero[h], sum, accs[j]) : accs[j];
          ys[j] = e.fma(acc, scales[h], ys[j]);
        }
      }
      return ys;
    });
  }

  void tile(Value base, Value row, Value first) {
    Value xRow = e.mul(first, s.stream.paddedCols);
    Emitter::Values ys;
    if (s.grouped)
      ys = groupScaled(first, xRow);
    else if (s.rowScales)
      ys = rowScaled(xRow);
    else
      ys = chain(direct ? w : scratch, direct ? base : e.index(0), xRow,
                 s.stream.paddedCols, zeros());
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value mi = e.add(first, i);
      e.when(e.less(mi, m), [&] {
        storePass(base, row, e.mul(mi, yStride),
                  ArrayRef<Value>(ys).slice(i * kPassBlocks, kPassBlocks));
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
