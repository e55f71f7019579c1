//===- GemmInt.cpp - Tiles of int8 codes times a packed weight ------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A pass of 32 rows is decoded once to a panel of bytes, [k / 4][row
// block][64]; then a register tile runs over it for every few activation rows.
// Codes that are bytes already need no panel.
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench;

namespace {

class GemmInt {
public:
  GemmInt(Emitter &e, const KernelShape &s, Block &entry)
      : e(e), s(s), w(entry.getArgument(0)), wOffset(entry.getArgument(1)),
        x(entry.getArgument(2)), scale(entry.getArgument(3)),
        sums(entry.getArgument(4)), y(entry.getArgument(5)),
        yStride(entry.getArgument(6)), scratch(entry.getArgument(7)),
        m(entry.getArgument(8)), lo(entry.getArgument(9)),
        hi(entry.getArgument(10)), direct(isPanel(s)), zeroBias(zeroBiasOf(s)) {
    scaleAt = direct ? 0 : s.stream.paddedCols / 4 * kQuadBytes;
    zeroAt = scaleAt + s.groups * kPassRows * 4;
  }

  void emit() {
    unit = unitScale(e, s.format, w, wOffset);
    e.loop(lo, hi, 1, [&](Value pass) {
      Value base = passBase(e, s, wOffset, pass);
      if (!direct || s.grouped)
        decodePanel(base);
      Value row = e.mul(pass, kPassRows);
      e.loop(e.index(0), m, s.tileRows,
             [&](Value first) { tile(base, row, first); });
    });
  }

  /// True if the decoded bytes lie in the stream as they would in a panel.
  static bool isPanel(const KernelShape &s) {
    if (!s.grouped && s.blockBytes() != s.layout.quads() * kQuadBytes)
      return false;
    for (int64_t step = 0; step < s.blockSteps; ++step) {
      ProbeRegisterBuilder probe;
      SmallVector<Plane> planes;
      int64_t start = s.layout.stepOffsets[step];
      s.format.decodeStep(probe, start, false, planes);
      // The quads of a group follow each other.
      int64_t first = s.groupQuads < s.stepQuads
                          ? step
                          : step / s.groupSteps * s.groupSteps;
      int64_t origin =
          interleavedOffset(s.layout, 0, s.layout.stepOffsets[first]);
      for (const Plane &plane : planes) {
        int64_t from = probe.loadedFrom(plane.value.handle);
        int64_t quad = (step - first) * s.stepQuads + plane.quad;
        if (from < 0)
          return false;
        for (int64_t h = 0; h < kPassBlocks; ++h)
          if (interleavedOffset(s.layout, h, from) !=
              origin + quad * kQuadBytes + h * 64)
            return false;
      }
    }
    return true;
  }

private:
  /// Where lanes leave room, the panel holds lane - zero + zeroBias, and the
  /// zero points are done with. 0: they do not, or there are none.
  static int64_t zeroBiasOf(const KernelShape &s) {
    if (!s.zero || !s.grouped || s.format.hasFloatZero())
      return 0;
    ProbeRegisterBuilder probe;
    SmallVector<Plane> planes;
    s.format.decodeStep(probe, s.layout.stepOffsets[0], false, planes);
    unsigned most = 0;
    for (const Plane &plane : planes)
      most = std::max(most, plane.hi);
    return 2 * most <= 255 && !isPanel(s) ? most : 0;
  }

  //--- The panel --------------------------------------------------------------

  void storeSteps(Value base, Value panel, int64_t first, int64_t count,
                  ArrayRef<Value> zeros) {
    FetchAhead fetch(e, w, base, s.spec.prefetch);
    SmallVector<Plane> planes;
    for (int64_t h = 0; h < kPassBlocks; ++h)
      for (int64_t j = first; j < first + count; ++j) {
        planes.clear();
        QKRegisterBuilder builder(e, s.layout, w, base, tableOf(e, s, wOffset),
                                  h, &fetch);
        s.format.decodeStep(builder, s.layout.stepOffsets[j], false, planes);
        for (const Plane &plane : planes) {
          Value v = QKRegisterBuilder::value(plane.value);
          int64_t quad = j * s.stepQuads + plane.quad;
          if (zeroBias)
            v = e.addInt(v, zeros[quad / s.groupQuads * kPassBlocks + h]);
          e.storeVector(v, scratch, e.add(panel, quad * kQuadBytes + 64 * h));
        }
      }
    fetch.emit();
  }

  /// zeroBias - zero of each group and row block, in the bytes of its rows.
  SmallVector<Value> zeroBytes(Value base) {
    SmallVector<Value> result;
    for (int64_t g = 0; zeroBias && g < s.blockGroups; ++g)
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value z = arith::SubIOp::create(e.b, e.loc, e.splat(zeroBias),
                                        loadZeros(e, s, w, base, g, h));
        result.push_back(e.bitcast(e.mulInt(z, e.splat(0x01010101)), e.bytes));
      }
    return result;
  }

  void storeWords(Value v, Value at) {
    e.storeVector(e.bitcast(v, e.bytes), scratch, at);
  }

  void decodePanel(Value base0) {
    e.loop(e.index(0), e.index(s.stream.blocks), 1, [&](Value i) {
      Value base = e.add(base0, e.mul(i, s.blockBytes()));
      Value panel = e.mul(i, s.layout.quads() * kQuadBytes);
      SmallVector<Value> zeros = zeroBytes(base);
      if (!direct && s.groupSteps <= kUnrolledSteps) {
        storeSteps(base, panel, 0, s.blockSteps, zeros);
      } else if (!direct) {
        int64_t unrolled = s.unrolledSteps();
        for (int64_t g = 0; g < s.blockGroups; ++g)
          e.loop(e.index(0), e.index(s.groupSteps), unrolled, [&](Value j) {
            storeSteps(e.add(base, e.mul(j, s.stepStride())),
                       e.add(panel, e.mul(j, s.stepQuads * kQuadBytes)),
                       g * s.groupSteps, unrolled, zeros);
          });
      }
      for (int64_t g = 0; s.grouped && g < s.blockGroups; ++g)
        for (int64_t h = 0; h < kPassBlocks; ++h)
          storeParams(base, e.mul(i, s.blockGroups * kPassRows * 4), g, h);
    });
  }

  /// Scale and zero point of 16 rows of a group, as floats and words.
  void storeParams(Value base, Value block, int64_t g, int64_t h) {
    int64_t to = (g * kPassRows + h * kBlockRows) * 4;
    storeWords(loadGroupScales(e, s, w, base, g, h),
               e.add(block, scaleAt + to));
    if (s.zero && !zeroBias)
      storeWords(loadZeros(e, s, w, base, g, h), e.add(block, zeroAt + to));
  }

  //--- The tile ---------------------------------------------------------------

  /// One quad: kPassBlocks registers of weights times tileRows words.
  void dots(Value weights, Value at, Value xAt, Emitter::Values &accs) {
    Value regs[kPassBlocks];
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value place = e.add(at, 64 * h);
      if (direct && s.spec.prefetch)
        e.prefetch(weights, e.add(place, kPrefetchDistance));
      regs[h] = e.loadVector(weights, place, e.bytes);
    }
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value xv = e.load(x, e.add(xAt, i));
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value &acc = accs[i * kPassBlocks + h];
        acc = qk::Dot4Op::create(e.b, e.loc, acc, regs[h], xv, 255);
      }
    }
  }

  /// `quads` quads from a place in the panel (or stream) on.
  Emitter::Values run(Value weights, Value at, Value xAt, int64_t quads,
                      Emitter::Values accs) {
    if (quads <= 32) {
      for (int64_t q = 0; q < quads; ++q)
        dots(weights, e.add(at, q * kQuadBytes), e.add(xAt, q * s.tileRows),
             accs);
      return accs;
    }
    int64_t unroll = s.grouped && quads % 4 == 0 ? 4 : 1;
    return e.loop(0, quads, unroll, accs, [&](Value q, ValueRange in) {
      Emitter::Values next(in);
      Value from = e.add(at, e.mul(q, kQuadBytes));
      Value xFrom = e.add(xAt, e.mul(q, s.tileRows));
      for (int64_t u = 0; u < unroll; ++u)
        dots(weights, e.add(from, u * kQuadBytes), e.add(xFrom, u * s.tileRows),
             next);
      return next;
    });
  }

  Value sumOf(Value first, int64_t i, Value g, int64_t times = 1) {
    Value at = e.add(e.mul(e.add(first, i), s.groups), g);
    Value sum = e.load(sums, at);
    if (times != 1)
      sum = e.mulInt(sum, arith::ConstantOp::create(
                              e.b, e.loc, e.b.getI32IntegerAttr(times)));
    return e.broadcast(sum, e.words);
  }

  bool corrected() const { return s.zero || s.format.bias(); }

  /// total + zero * sum, as floats; `zero` is null where zero points are done
  /// with.
  Value floatTotal(Value total, Value zero, Value sum) {
    if (zero && s.format.hasFloatZero())
      return e.fma(zero, e.toFloat(sum), e.toFloat(total));
    if (zero)
      total = e.addInt(total, e.mulInt(zero, sum));
    return e.toFloat(total);
  }

  Emitter::Values rowScaled(Value base, Value first, Value xRow) {
    Emitter::Values accs;
    for (int64_t j = 0; j < s.tileRows * kPassBlocks; ++j)
      accs.push_back(e.splat(0));
    if (!direct) {
      accs = run(scratch, e.index(0), xRow, s.stream.paddedCols / 4, accs);
    } else {
      // Without scales in between, the blocks follow each other.
      accs = run(w, base, xRow, s.stream.paddedCols / 4, accs);
    }
    Value zeros[kPassBlocks];
    for (int64_t h = 0; s.zero && h < kPassBlocks; ++h)
      zeros[h] = loadZeros(e, s, w, base, 0, h);
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value c = corrected() ? sumOf(first, i, e.index(0)) : Value();
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value &acc = accs[i * kPassBlocks + h];
        if (c && !s.zero)
          acc = e.addInt(acc, c);
        acc = floatTotal(acc, zeros[h], c);
      }
    }
    return accs;
  }

  Emitter::Values groupScaled(Value base0, Value first, Value xRow) {
    Emitter::Values inits(s.tileRows * kPassBlocks, e.splatFloat(0));
    return e.loop(0, s.stream.blocks, 1, inits, [&](Value i, ValueRange in) {
      Emitter::Values ys(in);
      for (int64_t g = 0; g < s.blockGroups; ++g)
        group(base0, first, xRow, i, g, ys);
      return ys;
    });
  }

  void group(Value base0, Value first, Value xRow, Value block, int64_t g,
             Emitter::Values &ys) {
    Value number = e.add(e.mul(block, s.blockGroups), g);
    Emitter::Values accs;
    bool multiplied = s.zero && !zeroBias;
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value c = e.splat(0);
      if (zeroBias)
        c = sumOf(first, i, number, zeroBias);
      else if (!s.zero && s.format.bias())
        c = sumOf(first, i, number);
      accs.append(kPassBlocks, c);
    }
    Value xAt = e.add(xRow, e.mul(number, s.groupQuads * s.tileRows));
    if (direct) {
      int64_t step = g * s.groupSteps, quad = 0;
      if (s.groupQuads < s.stepQuads) {
        step = 0;
        quad = g * s.groupQuads;
      }
      int64_t offset =
          interleavedOffset(s.layout, 0, s.layout.stepOffsets[step]) +
          quad * kQuadBytes;
      Value base = e.add(base0, e.mul(block, s.blockBytes()));
      accs = run(w, e.add(base, offset), xAt, s.groupQuads, accs);
    } else {
      accs = run(scratch, e.mul(number, s.groupQuads * kQuadBytes), xAt,
                 s.groupQuads, accs);
    }
    Value params = e.mul(number, kPassRows * 4);
    Value scales[kPassBlocks], zeros[kPassBlocks];
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      int64_t to = h * kBlockRows * 4;
      scales[h] = e.loadBytesAs(scratch, e.add(params, scaleAt + to), e.floats);
      if (multiplied)
        zeros[h] = e.loadBytesAs(scratch, e.add(params, zeroAt + to),
                                 s.format.hasFloatZero() ? e.floats : e.words);
    }
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value c = multiplied ? sumOf(first, i, number) : Value();
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        int64_t j = i * kPassBlocks + h;
        ys[j] = e.fma(floatTotal(accs[j], zeros[h], c), scales[h], ys[j]);
      }
    }
  }

  void tile(Value base, Value row, Value first) {
    Value xRow = e.mul(first, s.rowWords());
    Emitter::Values ys = s.grouped ? groupScaled(base, first, xRow)
                                   : rowScaled(base, first, xRow);
    Value rowScale[kPassBlocks];
    for (int64_t h = 0; s.rowScales && h < kPassBlocks; ++h)
      rowScale[h] = loadRowScales(e, s, w, base, h);
    for (int64_t i = 0; i < s.tileRows; ++i) {
      Value mi = e.add(first, i);
      e.when(e.less(mi, m), [&] {
        Value sx = e.load(scale, mi);
        if (unit)
          sx = e.mulFloat(sx, unit);
        sx = e.broadcast(sx, e.floats);
        for (int64_t h = 0; h < kPassBlocks; ++h) {
          Value v = e.mulFloat(ys[i * kPassBlocks + h], sx);
          if (s.rowScales)
            v = e.mulFloat(v, rowScale[h]);
          Value at = e.add(row, h * kBlockRows);
          storeRows(e, s.spec, v, y, e.add(e.mul(mi, yStride), at), at);
        }
      });
    }
  }

  Emitter &e;
  const KernelShape &s;
  Value w, wOffset, x, scale, sums, y, yStride, scratch, m, lo, hi;
  Value unit; // null: 1
  bool direct;
  int64_t zeroBias, scaleAt, zeroAt;
};

} // namespace

void quench::emitGemmInt(Emitter &e, const KernelShape &s, Block &entry) {
  GemmInt(e, s, entry).emit();
}
