//===- Linalg.cpp - Structured ops by their body ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The loop whose steps write different elements of all outputs, and in which
// most operands are contiguous, is cut into chunks and becomes the innermost
// one. The other loops run in their order, so that sums have one order.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "Engine.h"
#include <cblas.h>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// How the loops walk over one operand.
struct Access {
  HostTensor *tensor = nullptr;
  void *memory = nullptr; // of outputs
  bool linear = true;
  int64_t start = 0;
  SmallVector<int64_t, 6> strides; // by loop
  AffineMap map;
  SmallVector<int64_t, 6> tensorStrides;
};
} // namespace

/// Adds factor * expr to constant and coefficients; false: not linear.
static bool addLinear(AffineExpr expr, int64_t factor, int64_t &constant,
                      MutableArrayRef<int64_t> coefficients) {
  if (auto number = dyn_cast<AffineConstantExpr>(expr)) {
    constant += factor * number.getValue();
    return true;
  }
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    coefficients[dim.getPosition()] += factor;
    return true;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return false;
  if (expr.getKind() == AffineExprKind::Add)
    return addLinear(binary.getLHS(), factor, constant, coefficients) &&
           addLinear(binary.getRHS(), factor, constant, coefficients);
  if (expr.getKind() == AffineExprKind::Mul)
    if (auto by = dyn_cast<AffineConstantExpr>(binary.getRHS()))
      return addLinear(binary.getLHS(), factor * by.getValue(), constant,
                       coefficients);
  return false;
}

/// The sizes of the loops, from the operands whose index is the loop itself;
/// checks every index that is linear.
static Error findLoops(linalg::LinalgOp op, ArrayRef<HostTensor> operands,
                       SmallVectorImpl<int64_t> &loops) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  loops.assign(op.getNumLoops(), -1);
  for (auto [operand, map] : llvm::zip(operands, maps)) {
    if (static_cast<int64_t>(map.getNumResults()) != operand.getRank())
      return createStringError("an operand of rank " +
                               Twine(operand.getRank()) + " for a map of " +
                               Twine(map.getNumResults()) + " results");
    for (auto [d, expr] : llvm::enumerate(map.getResults())) {
      auto dim = dyn_cast<AffineDimExpr>(expr);
      if (!dim)
        continue;
      int64_t &size = loops[dim.getPosition()];
      if (size >= 0 && size != operand.dim(d))
        return createStringError("loop " + Twine(dim.getPosition()) +
                                 " has the sizes " + Twine(size) + " and " +
                                 Twine(operand.dim(d)));
      size = operand.dim(d);
    }
  }
  for (auto [i, size] : llvm::enumerate(loops))
    if (size < 0)
      return createStringError("the size of loop " + Twine(i) +
                               " follows from no operand");
  if (llvm::is_contained(loops, 0))
    return Error::success();
  for (auto [operand, map] : llvm::zip(operands, maps))
    for (auto [d, expr] : llvm::enumerate(map.getResults())) {
      int64_t low = 0;
      SmallVector<int64_t, 6> coefficients(loops.size(), 0);
      if (!addLinear(expr, 1, low, coefficients))
        continue;
      int64_t high = low;
      for (auto [loop, by] : llvm::zip(loops, coefficients))
        (by < 0 ? low : high) += by * (loop - 1);
      if (low < 0 || high >= operand.dim(d))
        return createStringError("indices " + Twine(low) + " to " +
                                 Twine(high) + " of dimension " + Twine(d) +
                                 " of " + operand.describe());
    }
  return Error::success();
}

static Access makeAccess(AffineMap map, HostTensor &tensor, size_t numLoops) {
  Access access;
  access.tensor = &tensor;
  access.map = map;
  access.strides.assign(numLoops, 0);
  access.tensorStrides.assign(tensor.getRank(), 1);
  for (int64_t d = tensor.getRank() - 2; d >= 0; --d)
    access.tensorStrides[d] = access.tensorStrides[d + 1] * tensor.dim(d + 1);
  for (auto [d, expr] : llvm::enumerate(map.getResults()))
    access.linear &=
        addLinear(expr, access.tensorStrides[d], access.start, access.strides);
  return access;
}

/// Drops loops of one step and joins loops d and d + 1 where every operand
/// walks over them as over one.
static void joinLoops(SmallVectorImpl<int64_t> &loops,
                      MutableArrayRef<Access> accesses) {
  for (size_t d = loops.size(); d-- > 0;) {
    if (loops[d] != 1)
      continue;
    loops.erase(loops.begin() + d);
    for (Access &access : accesses)
      access.strides.erase(access.strides.begin() + d);
  }
  for (size_t d = 0; d + 1 < loops.size();) {
    bool join = llvm::all_of(accesses, [&](const Access &access) {
      return access.strides[d] == access.strides[d + 1] * loops[d + 1];
    });
    if (!join) {
      ++d;
      continue;
    }
    loops[d] *= loops[d + 1];
    loops.erase(loops.begin() + d + 1);
    for (Access &access : accesses)
      access.strides.erase(access.strides.begin() + d);
  }
}

/// The loop to cut into chunks, or none (loops.size()).
static size_t chooseInner(ArrayRef<int64_t> loops, ArrayRef<Access> accesses,
                          size_t firstOut) {
  size_t best = loops.size();
  int64_t bestScore = -1;
  for (size_t d = 0; d < loops.size(); ++d) {
    bool writesApart =
        llvm::all_of(accesses.drop_front(firstOut), [&](const Access &out) {
          return out.linear && out.strides[d] != 0;
        });
    if (!writesApart || loops[d] < 2)
      continue;
    int64_t score = std::min<int64_t>(loops[d], kChunk);
    for (const Access &access : accesses)
      if (access.linear && (access.strides[d] == 1 || access.strides[d] == 0))
        score += 64;
    if (score > bestScore) {
      bestScore = score;
      best = d;
    }
  }
  return best;
}

/// Offsets of n elements of an operand whose map is not linear.
static Error offsetsOf(const Access &access, ArrayRef<int64_t> at, size_t inner,
                       int64_t n, int64_t *offsets) {
  SmallVector<int64_t, 6> index(at);
  for (int64_t i = 0; i < n; ++i) {
    if (inner < index.size())
      index[inner] = at[inner] + i;
    offsets[i] = 0;
    for (auto [d, expr] : llvm::enumerate(access.map.getResults())) {
      int64_t position = evaluate(expr, index, {});
      if (position < 0 || position >= access.tensor->dim(d))
        return createStringError("index " + Twine(position) + " of dimension " +
                                 Twine(d) + " of " + access.tensor->describe());
      offsets[i] += position * access.tensorStrides[d];
    }
  }
  return Error::success();
}

static bool isNative(ElementKind kind) {
  return kind == ElementKind::F32 || kind == ElementKind::F64 ||
         kind == ElementKind::I64;
}

static Error runLoops(const Tape &tape, ArrayRef<int64_t> loops,
                      ArrayRef<Access> accesses, size_t firstOut) {
  size_t inner = chooseInner(loops, accesses, firstOut);
  Tape::Frame frame(tape);
  SmallVector<int64_t, 6> at(loops.size(), 0);
  int64_t offsets[kChunk];
  while (true) {
    int64_t size = inner < loops.size() ? loops[inner] : 1;
    for (int64_t begin = 0; begin < size; begin += kChunk) {
      int64_t n = std::min(kChunk, size - begin);
      if (inner < loops.size())
        at[inner] = begin;
      auto offsetOf = [&](const Access &access) {
        int64_t offset = access.start;
        for (size_t d = 0; d < loops.size(); ++d)
          offset += at[d] * access.strides[d];
        return offset;
      };
      auto strideOf = [&](const Access &access) {
        return inner < loops.size() ? access.strides[inner] : 0;
      };
      for (auto [i, access] : llvm::enumerate(accesses)) {
        if (!tape.usesArgument(i))
          continue;
        ElementKind kind = access.tensor->getKind();
        const void *base = access.memory ? access.memory : access.tensor->raw();
        if (!access.linear) {
          QUENCH_CHECK(offsetsOf(access, at, inner, n, offsets));
          gatherRegister(kind, base, offsets, n, frame.argument(i));
        } else if (isNative(kind) && (strideOf(access) == 1 || n == 1)) {
          frame.setArgument(i, static_cast<const char *>(base) +
                                   offsetOf(access) * elementBytes(kind));
        } else {
          loadRegister(kind, base, offsetOf(access), strideOf(access), n,
                       frame.argument(i));
        }
      }
      for (size_t d = 0; d < loops.size(); ++d)
        if (tape.usesIndex(d)) {
          int64_t *index = frame.index(d);
          for (int64_t i = 0; i < n; ++i)
            index[i] = at[d] + (d == inner ? i : 0);
        }
      QUENCH_CHECK(frame.run(n));
      for (size_t i = firstOut; i < accesses.size(); ++i)
        storeRegister(accesses[i].tensor->getKind(), accesses[i].memory,
                      offsetOf(accesses[i]), strideOf(accesses[i]), n,
                      frame.result(i - firstOut));
    }
    // The next step of the other loops, the last one fastest.
    if (inner < loops.size())
      at[inner] = 0;
    int64_t d = static_cast<int64_t>(loops.size()) - 1;
    for (; d >= 0; --d) {
      if (d == static_cast<int64_t>(inner))
        continue;
      if (++at[d] < loops[d])
        break;
      at[d] = 0;
    }
    if (d < 0)
      return Error::success();
  }
}

/// out += a b by BLAS, for plain f32 matmul and batch_matmul.
static bool isPlainProduct(linalg::LinalgOp op, ArrayRef<HostTensor> operands) {
  if (auto matmul = dyn_cast<linalg::MatmulOp>(op.getOperation()))
    if (matmul.hasUserDefinedMaps())
      return false;
  if (auto matmul = dyn_cast<linalg::BatchMatmulOp>(op.getOperation()))
    if (matmul.hasUserDefinedMaps())
      return false;
  return isa<linalg::MatmulOp, linalg::BatchMatmulOp>(op.getOperation()) &&
         llvm::all_of(operands, [](const HostTensor &tensor) {
           return tensor.getKind() == ElementKind::F32;
         });
}

static void multiply(const HostTensor &a, const HostTensor &b,
                     HostTensor &out) {
  int64_t rank = out.getRank();
  int64_t m = out.dim(rank - 2), n = out.dim(rank - 1), k = a.dim(rank - 1);
  int64_t batch = rank == 3 ? out.dim(0) : 1;
  float *to = out.mutableData<float>();
  for (int64_t i = 0; i < batch; ++i)
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f,
                a.data<float>() + i * m * k, std::max<int64_t>(k, 1),
                b.data<float>() + i * k * n, std::max<int64_t>(n, 1), 1.0f,
                to + i * m * n, std::max<int64_t>(n, 1));
}

Error quench::runLinalg(Step &step) {
  auto op = cast<linalg::LinalgOp>(step.op);
  if (!op.hasPureTensorSemantics())
    return createStringError("only the form on tensors can be interpreted");
  SmallVector<int64_t> loops;
  size_t firstOut = op.getNumDpsInputs();
  size_t numOperands = firstOut + op.getNumDpsInits();
  MutableArrayRef<HostTensor> operands = step.operands.take_front(numOperands);
  QUENCH_CHECK(findLoops(op, operands, loops));
  bool empty = llvm::is_contained(loops, 0);

  if (isPlainProduct(op, operands)) {
    HostTensor out = std::move(operands[2]);
    if (Error error = out.detach())
      return error;
    if (!empty)
      multiply(operands[0], operands[1], out);
    step.results.push_back(std::move(out));
    return Error::success();
  }

  auto capture = [&](Value value) {
    return step.engine.get(value, step.values);
  };
  QUENCH_TRY(tape,
             Tape::compileBlock(*op.getBlock(), capture, op.getNumLoops()));
  for (size_t i = firstOut; i < numOperands; ++i) {
    HostTensor out = std::move(operands[i]);
    operands[i] = HostTensor();
    if (!out.isUnique() && !tape.usesArgument(i)) {
      QUENCH_TRY(fresh, HostTensor::allocate(out.getKind(), out.getShape()));
      out = std::move(fresh);
    }
    if (Error error = out.detach())
      return error;
    step.results.push_back(std::move(out));
  }
  if (empty)
    return Error::success();

  SmallVector<Access> accesses;
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  bool canJoin = !tape.usesIndices();
  for (size_t i = 0; i < numOperands; ++i) {
    HostTensor &tensor =
        i < firstOut ? operands[i] : step.results[i - firstOut];
    accesses.push_back(makeAccess(maps[i], tensor, loops.size()));
    canJoin &= accesses.back().linear;
    if (i >= firstOut) {
      accesses.back().memory = tensor.mutableRaw();
      if (!accesses.back().linear)
        return createStringError("an output with an index that is not linear");
    }
  }
  if (canJoin)
    joinLoops(loops, accesses);
  return runLoops(tape, loops, accesses, firstOut);
}
