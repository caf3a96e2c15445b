package cuda

import (
	"encoding/hex"
	"fmt"
	"unsafe"

	"jambalaya/internal/engine"
)

// blas is cuBLASLt, NVIDIA's library of matrix products.
type blas struct {
	library
	handle                                 uintptr
	create, destroy, number, multiply      uintptr
	descCreate, descSet, descDestroy       uintptr
	layoutCreate, layoutDestroy            uintptr
	preferCreate, preferSet, preferDestroy uintptr
	heuristic                              uintptr
}

func openBlas() (*blas, error) {
	lib, err := openLibrary("install the CUDA toolkit 12 or 13 (package libcublas)", "libcublasLt.so.13", "libcublasLt.so.12")
	if err != nil {
		return nil, err
	}
	l := &blas{library: lib}
	err = lib.bind(map[string]*uintptr{
		"cublasLtCreate": &l.create, "cublasLtDestroy": &l.destroy, "cublasLtGetVersion": &l.number, "cublasLtMatmul": &l.multiply,
		"cublasLtMatmulDescCreate": &l.descCreate, "cublasLtMatmulDescSetAttribute": &l.descSet, "cublasLtMatmulDescDestroy": &l.descDestroy,
		"cublasLtMatrixLayoutCreate": &l.layoutCreate, "cublasLtMatrixLayoutDestroy": &l.layoutDestroy,
		"cublasLtMatmulPreferenceCreate": &l.preferCreate, "cublasLtMatmulPreferenceSetAttribute": &l.preferSet,
		"cublasLtMatmulPreferenceDestroy": &l.preferDestroy, "cublasLtMatmulAlgoGetHeuristic": &l.heuristic,
	})
	if err != nil {
		return nil, err
	}
	if status := syscall(l.create, uintptr(unsafe.Pointer(&l.handle))); status != 0 {
		return nil, fmt.Errorf("cuda: %s does not start: status %d: %w", l.name, status, ErrUnavailable)
	}
	return l, nil
}

func (l *blas) close() {
	if l != nil {
		syscall(l.destroy, l.handle)
	}
}

// version identifies the library in checkpoints.
func (l *blas) version() string {
	return fmt.Sprint(uint32(syscall(l.number)))
}

// product is c = op(a) op(b) (+ c), of row-major matrices.
type product struct {
	m, n, k    int
	ta, tb     bool
	accumulate bool
	input      engine.DType // of a and b
	output     engine.DType
	alignment  uint32 // bytes, of the least aligned operand
}

func (p product) String() string {
	return fmt.Sprintf("m%d n%d k%d ta%t tb%t acc%t %v->%v align%d", p.m, p.n, p.k, p.ta, p.tb, p.accumulate, p.input, p.output, p.alignment)
}

// plannedProduct holds what cublasLtMatmul takes.
type plannedProduct struct {
	desc, first, second, result uintptr
	alpha, beta                 float32
	found                       heuristicResult
	call                        []uintptr
}

// heuristicResult mirrors cublasLtMatmulHeuristicResult_t.
type heuristicResult struct {
	algorithm [8]uint64
	workspace uint64
	state     int32
	waves     float32
	_         [4]int32
}

// Values of the library's enumerations.
const (
	compute32F      = 68 // CUBLAS_COMPUTE_32F: fp32 sums, and no TF32 for fp32 data
	real32F         = 0  // CUDA_R_32F
	realBF16        = 14 // CUDA_R_16BF
	descTransA      = 3
	descTransB      = 4
	preferWorkspace = 1
	preferReduction = 3 // mask
	preferAlignA    = 5 // and b, c, d in the next three
	// A sum over k that is cut into parts is added up in the workspace, in order;
	// ways that use atomic additions or round in between are not allowed.
	reductionInOrder = 2
)

// workspaceBytes is what products may use; the library's advice for Hopper.
const workspaceBytes = 32 << 20

func realType(d engine.DType) uintptr {
	if d == engine.BFloat16 {
		return realBF16
	}
	return real32F
}

// plan asks the library for its algorithm. The answer depends on the shapes,
// types and alignment, the device and the library's version, and on nothing else.
//
// The library's matrices are column-major: a row-major matrix is the transpose
// of one, so that c^T = op(b)^T op(a)^T is computed.
func (l *blas) plan(p product) (*plannedProduct, error) {
	q := &plannedProduct{alpha: 1}
	if p.accumulate {
		q.beta = 1
	}
	matrix := func(rows, columns int, transposed bool, d engine.DType, layout *uintptr) int32 {
		if transposed {
			rows, columns = columns, rows
		}
		return syscall(l.layoutCreate, uintptr(unsafe.Pointer(layout)), realType(d), uintptr(columns), uintptr(rows), uintptr(columns))
	}
	status := syscall(l.descCreate, uintptr(unsafe.Pointer(&q.desc)), compute32F, real32F)
	set := func(attribute uintptr, transposed bool) {
		op := new(int32)
		if transposed {
			*op = 1
		}
		status |= syscall(l.descSet, q.desc, attribute, uintptr(unsafe.Pointer(op)), 4)
	}
	set(descTransA, p.tb)
	set(descTransB, p.ta)
	status |= matrix(p.k, p.n, p.tb, p.input, &q.first)
	status |= matrix(p.m, p.k, p.ta, p.input, &q.second)
	status |= matrix(p.m, p.n, false, p.output, &q.result)
	if status != 0 {
		return nil, fmt.Errorf("cuda: %s cannot describe the product %v: %w", l.name, p, ErrDevice)
	}
	return q, l.choose(p, q)
}

// choose fills in the algorithm.
func (l *blas) choose(p product, q *plannedProduct) error {
	var prefer uintptr
	status := syscall(l.preferCreate, uintptr(unsafe.Pointer(&prefer)))
	if status != 0 {
		return fmt.Errorf("cuda: %s: status %d: %w", l.name, status, ErrDevice)
	}
	defer syscall(l.preferDestroy, prefer)
	limit, mask, alignment := new(uint64), new(uint32), new(uint32)
	*limit, *mask, *alignment = workspaceBytes, reductionInOrder, p.alignment
	status |= syscall(l.preferSet, prefer, preferWorkspace, uintptr(unsafe.Pointer(limit)), 8)
	status |= syscall(l.preferSet, prefer, preferReduction, uintptr(unsafe.Pointer(mask)), 4)
	for i := range uintptr(4) {
		status |= syscall(l.preferSet, prefer, preferAlignA+i, uintptr(unsafe.Pointer(alignment)), 4)
	}
	count := new(int32)
	status |= syscall(l.heuristic, l.handle, q.desc, q.first, q.second, q.result, q.result, prefer, 1,
		uintptr(unsafe.Pointer(&q.found)), uintptr(unsafe.Pointer(count)))
	if status != 0 || *count == 0 || q.found.state != 0 {
		return fmt.Errorf("cuda: %s has no algorithm for the product %v (status %d): %w", l.name, p, status, ErrDevice)
	}
	return nil
}

// algorithm is the choice in writing.
func (q *plannedProduct) algorithm() string {
	return hex.EncodeToString(unsafe.Slice((*byte)(unsafe.Pointer(&q.found.algorithm)), unsafe.Sizeof(q.found.algorithm)))
}

// bind fixes the operands of the call.
func (q *plannedProduct) bind(l *blas, a, b, c, workspace address, stream uintptr) {
	q.call = []uintptr{l.handle, q.desc, uintptr(unsafe.Pointer(&q.alpha)), uintptr(b), q.first, uintptr(a), q.second,
		uintptr(unsafe.Pointer(&q.beta)), uintptr(c), q.result, uintptr(c), q.result,
		uintptr(unsafe.Pointer(&q.found)), uintptr(workspace), workspaceBytes, stream}
}
