//===- GemvInt.cpp - One row of int8 codes times a packed weight ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench;

namespace {

/// Which accumulator a plane adds to. Planes of one accumulator have the same
/// shift; there are enough of them to hide the latency of a dot product.
struct Accumulators {
  SmallVector<unsigned> ofPlane; // by plane
  SmallVector<unsigned> shifts;  // by accumulator

  Accumulators(ArrayRef<Plane> planes, unsigned wanted) {
    SmallVector<unsigned> distinct, seen;
    for (const Plane &plane : planes)
      if (!llvm::is_contained(distinct, plane.shift))
        distinct.push_back(plane.shift);
    unsigned ways = std::max<unsigned>(1, wanted / distinct.size());
    SmallVector<SmallVector<unsigned>> made(distinct.size());
    seen.assign(distinct.size(), 0);
    for (const Plane &plane : planes) {
      unsigned c = llvm::find(distinct, plane.shift) - distinct.begin();
      unsigned way = seen[c]++ % ways;
      if (way >= made[c].size()) {
        made[c].push_back(shifts.size());
        shifts.push_back(plane.shift);
      }
      ofPlane.push_back(made[c][way]);
    }
  }
};

using Sums = SmallVector<SmallVector<Value>>; // [row block][accumulator]

class GemvInt {
public:
  GemvInt(Emitter &e, const KernelShape &s, Block &entry)
      : e(e), s(s), w(entry.getArgument(0)), wOffset(entry.getArgument(1)),
        x(entry.getArgument(2)), scale(entry.getArgument(3)),
        sums(entry.getArgument(4)), y(entry.getArgument(5)),
        lo(entry.getArgument(6)), hi(entry.getArgument(7)) {}

  void emit() {
    Value sx = e.load(scale, e.index(0));
    if (Value unit = unitScale(e, s.format, w, wOffset))
      sx = e.mulFloat(sx, unit);
    sx = e.broadcast(sx, e.floats);
    e.loop(lo, hi, 1, [&](Value pass) {
      e.keepRolled = true;
      Value base = passBase(e, s, wOffset, pass);
      Emitter::Values rows = s.grouped ? groupScaled(base) : rowScaled(base);
      e.keepRolled = false;
      Value row = e.mul(pass, kPassRows);
      for (int64_t h = 0; h < kPassBlocks; ++h) {
        Value v = rows[h];
        if (tinyScales())
          v = e.mulFloat(v, e.splatFloat(0x1p112f));
        v = e.mulFloat(v, sx);
        if (s.rowScales)
          v = e.mulFloat(v, loadRowScales(e, s, w, base, h));
        Value at = e.add(row, h * kBlockRows);
        storeRows(e, s.spec, v, y, at, at);
      }
    });
  }

private:
  /// The planes of one step of both row blocks.
  void decode(Value base, int64_t offset,
              SmallVector<Plane> (&planes)[kPassBlocks]) {
    FetchAhead fetch(e, w, base, s.spec.prefetch);
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      planes[h].clear();
      QKRegisterBuilder builder(e, s.layout, w, base, tableOf(e, s, wOffset), h,
                                &fetch);
      s.format.decodeStep(builder, offset, s.inPlace, planes[h]);
    }
    fetch.emit();
  }

  /// Planes without code, for their shifts.
  SmallVector<Plane> probe() {
    ProbeRegisterBuilder builder;
    SmallVector<Plane> planes;
    s.format.decodeStep(builder, s.layout.stepOffsets[0], s.inPlace, planes);
    return planes;
  }

  void dot(Value &acc, const Plane &plane, Value xv) {
    acc = qk::Dot4Op::create(
        e.b, e.loc, acc, QKRegisterBuilder::value(plane.value), xv, plane.hi);
  }

  /// The sum of the accumulators of a row block, each shifted back.
  Value finish(ArrayRef<Value> accs, const Accumulators &plan, Value total) {
    SmallVector<unsigned> done;
    for (unsigned shift : plan.shifts) {
      if (llvm::is_contained(done, shift))
        continue;
      done.push_back(shift);
      Value same;
      for (auto [acc, other] : llvm::zip(accs, plan.shifts))
        if (other == shift)
          same = same ? e.addInt(same, acc) : acc;
      same = e.shiftRight(same, shift);
      total = total ? e.addInt(total, same) : same;
    }
    return total;
  }

  /// - bias * (sum of the activations of a group), or that times the zero
  /// point.
  Value correction(Value block, int64_t g, Value base, int64_t h, Value &sum) {
    if (s.format.hasFloatZero() || (!s.zero && !s.format.bias()))
      return {};
    if (!sum)
      sum = sumOf(block, g);
    return s.zero ? e.mulInt(loadZeros(e, s, w, base, g, h), sum) : sum;
  }

  Value sumOf(Value block, int64_t g) {
    Value at = e.add(e.mul(block, s.blockGroups), g);
    return e.broadcast(e.load(sums, at), e.words);
  }

  /// A sum of a group as floats, with zero points that are floats.
  Value floatTotal(Value total, Value block, int64_t g, Value base, int64_t h,
                   Value &sum) {
    total = e.toFloat(total);
    if (!s.format.hasFloatZero())
      return total;
    if (!sum)
      sum = e.toFloat(sumOf(block, g));
    return e.fma(loadZeros(e, s, w, base, g, h), sum, total);
  }

  /// Steps `first`.. of a group, `count` of them, onto its accumulators.
  void addSteps(Value base, Value xBase, int64_t first, int64_t count,
                const Accumulators &plan, Sums &accs) {
    SmallVector<Plane> planes[kPassBlocks];
    for (int64_t j = first; j < first + count; ++j) {
      decode(base, s.layout.stepOffsets[j], planes);
      for (size_t p = 0; p < planes[0].size(); ++p) {
        Value xv = e.load(x, e.add(xBase, j * s.stepQuads + planes[0][p].quad));
        for (int64_t h = 0; h < kPassBlocks; ++h)
          dot(accs[h][plan.ofPlane[p]], planes[h][p], xv);
      }
    }
  }

  Sums zeros(const Accumulators &plan) {
    return Sums(kPassBlocks,
                SmallVector<Value>(plan.shifts.size(), e.splat(0)));
  }

  /// The correction of a group, put into the first sum that is not shifted;
  /// `corrected` tells whether there is one.
  Sums groupStart(const Accumulators &plan, Value block, Value base, int64_t g,
                  bool &corrected) {
    Sums accs = zeros(plan);
    auto plain = llvm::find(plan.shifts, 0u);
    corrected = plain != plan.shifts.end();
    Value sum;
    for (int64_t h = 0; corrected && h < kPassBlocks; ++h)
      if (Value start = correction(block, g, base, h, sum))
        accs[h][plain - plan.shifts.begin()] = start;
    return accs;
  }

  void unflatten(ValueRange values, Sums &accs) {
    size_t i = 0;
    for (auto &row : accs)
      for (Value &acc : row)
        acc = values[i++];
  }
  Emitter::Values flatten(const Sums &accs) {
    Emitter::Values values;
    for (auto &row : accs)
      values.append(row.begin(), row.end());
    return values;
  }

  Emitter::Values rowScaled(Value base) {
    Accumulators plan(probe(), 4);
    Sums accs = zeros(plan);
    Emitter::Values ends = e.loop(
        0, s.stream.blocks, 1, flatten(accs), [&](Value i, ValueRange values) {
          unflatten(values, accs);
          addSteps(e.add(base, e.mul(i, s.blockBytes())),
                   e.mul(i, s.layout.quads()), 0, s.blockSteps, plan, accs);
          return flatten(accs);
        });
    unflatten(ends, accs);
    Value sum;
    Emitter::Values rows;
    Value first = e.index(0);
    for (int64_t h = 0; h < kPassBlocks; ++h)
      rows.push_back(
          floatTotal(finish(accs[h], plan, correction(first, 0, base, h, sum)),
                     first, 0, base, h, sum));
    return rows;
  }

  /// Sums of integers times scales that lack 2^112 lose nothing: what is not 0
  /// is far enough from the least float.
  bool tinyScales() const {
    return s.grouped && scaleShift(s.format.scaleKind()) != 0;
  }
  Value groupScales(Value base, int64_t g, int64_t h) {
    if (!tinyScales())
      return loadGroupScales(e, s, w, base, g, h);
    int64_t at = interleavedOffset(s.layout, h, s.layout.scaleOffset(g));
    return e.loadTinyScales(w, e.add(base, at), s.format.scaleKind());
  }

  /// y = sum * scale + y of a group, for both row blocks.
  void scaleGroup(Value block, Value base, int64_t g, const Accumulators &plan,
                  const Sums &accs, bool corrected, Emitter::Values &ys) {
    if (s.spec.prefetch)
      e.prefetch(w, e.add(base, kPrefetchDistance +
                                    interleavedOffset(
                                        s.layout, 0, s.layout.scaleOffset(g))));
    Value sum;
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value rest = corrected ? Value() : correction(block, g, base, h, sum);
      Value total = finish(accs[h], plan, rest);
      ys[h] = e.fma(floatTotal(total, block, g, base, h, sum),
                    groupScales(base, g, h), ys[h]);
    }
  }

  Emitter::Values groupScaled(Value base0) {
    SmallVector<Plane> dry = probe();
    Emitter::Values inits(kPassBlocks, e.splatFloat(0));
    return e.loop(0, s.stream.blocks, 1, inits, [&](Value i, ValueRange in) {
      Emitter::Values ys(in);
      Value base = e.add(base0, e.mul(i, s.blockBytes()));
      Value xBase = e.mul(i, s.layout.quads());
      if (s.groupQuads < s.stepQuads)
        groupsOfStep(i, base, xBase, ys);
      else
        for (int64_t g = 0; g < s.blockGroups; ++g)
          group(i, base, xBase, g, dry, ys);
      return ys;
    });
  }

  void group(Value block, Value base, Value xBase, int64_t g,
             ArrayRef<Plane> dry, Emitter::Values &ys) {
    bool looped = s.groupSteps > kUnrolledSteps;
    Accumulators plan(dry, looped || s.groupSteps > 2 ? 4 : 2);
    bool corrected;
    Sums accs = groupStart(plan, block, base, g, corrected);
    if (!looped) {
      addSteps(base, xBase, g * s.groupSteps, s.groupSteps, plan, accs);
    } else {
      int64_t unrolled = s.unrolledSteps();
      Emitter::Values ends =
          e.loop(0, s.groupSteps, unrolled, flatten(accs),
                 [&](Value j, ValueRange values) {
                   unflatten(values, accs);
                   addSteps(e.add(base, e.mul(j, s.stepStride())),
                            e.add(xBase, e.mul(j, s.stepQuads)),
                            g * s.groupSteps, unrolled, plan, accs);
                   return flatten(accs);
                 });
      unflatten(ends, accs);
    }
    scaleGroup(block, base, g, plan, accs, corrected, ys);
  }

  /// Several groups share the one step of a block.
  void groupsOfStep(Value block, Value base, Value xBase, Emitter::Values &ys) {
    SmallVector<Plane> planes[kPassBlocks];
    decode(base, s.layout.stepOffsets[0], planes);
    for (int64_t g = 0; g < s.blockGroups; ++g) {
      SmallVector<size_t> mine;
      SmallVector<Plane> own;
      for (auto [p, plane] : llvm::enumerate(planes[0]))
        if (plane.quad / s.groupQuads == g) {
          mine.push_back(p);
          own.push_back(plane);
        }
      // Short groups: their number hides the latency.
      Accumulators plan(own, 1);
      bool corrected;
      Sums accs = groupStart(plan, block, base, g, corrected);
      for (auto [i, p] : llvm::enumerate(mine)) {
        Value xv = e.load(x, e.add(xBase, planes[0][p].quad));
        for (int64_t h = 0; h < kPassBlocks; ++h)
          dot(accs[h][plan.ofPlane[i]], planes[h][p], xv);
      }
      scaleGroup(block, base, g, plan, accs, corrected, ys);
    }
  }

  Emitter &e;
  const KernelShape &s;
  Value w, wOffset, x, scale, sums, y, lo, hi;
};

} // namespace

void quench::emitGemvInt(Emitter &e, const KernelShape &s, Block &entry) {
  GemvInt(e, s, entry).emit();
}
