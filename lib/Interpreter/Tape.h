//===- Tape.h - Scalar regions over chunks of elements ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A region of scalar ops (the body of a linalg op, or one arith op on tensors)
// becomes a list of instructions. Each works on registers of up to kChunk
// elements, so that the cost of interpretation is shared by a chunk.
//
// A register holds floats (f16, bf16, f32), doubles (f64) or int64 (integers
// and index). Integers narrower than 64 bits are kept sign-extended, i1 as 0 or
// 1; f16 and bf16 are rounded after each op.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_INTERPRETER_TAPE_H
#define QUENCH_LIB_INTERPRETER_TAPE_H

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Block.h"
#include "quench/Support/HostTensor.h"
#include "llvm/ADT/DenseMap.h"

namespace quench {

constexpr int64_t kChunk = 512;

/// The kind of an MLIR scalar type, or an error that names the type.
llvm::Expected<ElementKind> elementKind(mlir::Type type);

/// What a register holds.
enum class RegisterKind : uint8_t { Float, Double, Int };
RegisterKind registerKind(ElementKind kind);

/// dst[i] = f(a[i], b[i], c[i]) for n elements. `imm` is a width or a choice.
using Kernel = void (*)(void *dst, const void *a, const void *b, const void *c,
                        int64_t n, int64_t imm);

/// The kernel of an op by its name, for operands of `kind`; null: none.
Kernel findKernel(llvm::StringRef name, ElementKind operandKind,
                  ElementKind resultKind);
/// The kernel of a comparison, with its predicate as `imm`.
Kernel findCompare(llvm::StringRef name, RegisterKind kind);
/// Rounds a register to f16 or bf16, or wraps integers to a narrow width (`imm`
/// bits); null if `kind` needs none of it.
Kernel findNarrow(ElementKind kind, int64_t &imm);

/// Loads n elements with a stride (in elements) into a register.
void loadRegister(ElementKind kind, const void *base, int64_t offset,
                  int64_t stride, int64_t n, void *reg);
/// The same with an offset for each element.
void gatherRegister(ElementKind kind, const void *base, const int64_t *offsets,
                    int64_t n, void *reg);
void storeRegister(ElementKind kind, void *base, int64_t offset, int64_t stride,
                   int64_t n, const void *reg);

/// Gives the value of an SSA value that is defined outside of the region.
using CaptureFn = llvm::function_ref<llvm::Expected<HostTensor>(mlir::Value)>;

class Tape {
public:
  /// One register for each argument of `block`, then its ops, except for the
  /// terminator. For linalg.index ops `numDims` registers are reserved; with
  /// `argsAreIndices` the arguments themselves are the indices.
  static llvm::Expected<Tape> compileBlock(mlir::Block &block,
                                           CaptureFn capture, int64_t numDims,
                                           bool argsAreIndices = false);
  /// One op; its operands are the arguments.
  static llvm::Expected<Tape> compileOp(mlir::Operation *op);

  unsigned numArguments() const { return arguments.size(); }
  ElementKind argumentKind(unsigned i) const { return kinds[arguments[i]]; }
  unsigned numResults() const { return results.size(); }
  ElementKind resultKind(unsigned i) const { return kinds[results[i]]; }
  bool usesIndex(unsigned dim) const {
    return dim < indices.size() && indices[dim] >= 0;
  }
  bool usesIndices() const;
  /// Whether argument i is read by an instruction or is a result.
  bool usesArgument(unsigned i) const;

  /// The registers of one execution; constants are filled in.
  class Frame {
  public:
    explicit Frame(const Tape &tape);
    /// The register's memory, to be written.
    void *argument(unsigned i);
    /// Lets argument i be n elements that lie in memory as registers do.
    void setArgument(unsigned i, const void *data);
    int64_t *index(unsigned dim);
    /// Error: an index of tensor.extract outside of its tensor.
    llvm::Error run(int64_t n);
    const void *result(unsigned i) const;

  private:
    const Tape &tape;
    std::vector<char> storage;
    llvm::SmallVector<const void *, 16> current;
    char *memoryOf(unsigned reg);
  };

private:
  struct Instruction {
    Kernel kernel = nullptr; // null: tensor.extract
    unsigned dst = 0;
    unsigned src[3] = {0, 0, 0};
    int64_t imm = 0;
    unsigned tensor = 0;                    // of extract
    llvm::SmallVector<unsigned, 2> indices; // of extract
  };
  struct Constant {
    unsigned reg;
    double d;
    int64_t i;
  };

  unsigned newRegister(ElementKind kind);
  llvm::Error compile(mlir::Operation *op, CaptureFn capture);
  llvm::Error compileExtract(mlir::Operation *op, CaptureFn capture);
  llvm::Expected<unsigned> lookup(mlir::Value value, CaptureFn capture);
  llvm::Expected<unsigned> compileExpr(mlir::AffineExpr expr,
                                       llvm::ArrayRef<unsigned> dims,
                                       unsigned numDims);
  unsigned intConstant(int64_t value);
  unsigned emit(Kernel kernel, ElementKind kind, llvm::ArrayRef<unsigned> src,
                int64_t imm = 0);

  std::vector<ElementKind> kinds; // of registers
  llvm::SmallVector<unsigned, 4> arguments, results;
  llvm::SmallVector<int, 4> indices; // dimension -> register, or -1
  std::vector<Instruction> code;
  std::vector<Constant> constants;
  std::vector<HostTensor> tensors; // of extract
  llvm::DenseMap<mlir::Value, unsigned> registers;
};

/// Evaluates an affine expression. Division by zero gives 0.
int64_t evaluate(mlir::AffineExpr expr, llvm::ArrayRef<int64_t> dims,
                 llvm::ArrayRef<int64_t> symbols);

} // namespace quench

#endif // QUENCH_LIB_INTERPRETER_TAPE_H
