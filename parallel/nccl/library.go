package nccl

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"jambalaya/internal/backend/cuda"
)

// functions of libnccl.
type functions struct {
	version, uniqueID                        uintptr
	initRank, finalize, destroy, abort       uintptr
	asyncError, groupStart, groupEnd         uintptr
	allReduce, reduce, broadcast, send, recv uintptr
}

// load loads the library once.
var load = sync.OnceValues(func() (*functions, error) {
	for name, value := range map[string]string{"NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple", "NCCL_NVLS_ENABLE": "0"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, value); err != nil {
				return nil, fmt.Errorf("nccl: %w", err)
			}
		}
	}
	f := &functions{}
	_, err := cuda.Load("install NCCL 2.23 or later (package libnccl2, or the wheel nvidia-nccl)", map[string]*uintptr{
		"ncclGetVersion": &f.version, "ncclGetUniqueId": &f.uniqueID, "ncclCommInitRankScalable": &f.initRank,
		"ncclCommFinalize": &f.finalize, "ncclCommDestroy": &f.destroy, "ncclCommAbort": &f.abort,
		"ncclCommGetAsyncError": &f.asyncError, "ncclGroupStart": &f.groupStart, "ncclGroupEnd": &f.groupEnd,
		"ncclAllReduce": &f.allReduce, "ncclReduce": &f.reduce, "ncclBroadcast": &f.broadcast, "ncclSend": &f.send, "ncclRecv": &f.recv,
	}, "libnccl.so.2")
	return f, err
})

// Version is the library's, as in "2.28.3".
func Version() (string, error) {
	f, err := load()
	if err != nil {
		return "", err
	}
	var v int32
	if err := f.check("ask for the version", cuda.Call(f.version, uintptr(unsafe.Pointer(&v)))); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100), nil
}

// Results of NCCL's functions.
const (
	success    = 0
	inProgress = 7
)

// results are the names of the others, as ncclResult_t numbers them.
var results = []string{1: "a CUDA call failed", "a call to the system failed", "an internal check failed", "invalid argument",
	"invalid usage", "another rank failed or the network did"}

// Error is what a function of NCCL returned.
type Error struct {
	What   string // was tried
	Result int32
}

func (e *Error) Error() string {
	said := "unknown"
	if e.Result > 0 && int(e.Result) < len(results) {
		said = results[e.Result]
	}
	return fmt.Sprintf("nccl: %s: %s (result %d; NCCL_DEBUG=INFO says more)", e.What, said, e.Result)
}

// check turns a result into an error. A call that is in progress is none.
func (f *functions) check(what string, result int32) error {
	if result == success || result == inProgress {
		return nil
	}
	return &Error{what, result}
}

// Types of data, as ncclDataType_t numbers them, and the one reduction.
const (
	typeUint8    = 1
	typeFloat32  = 7
	typeBFloat16 = 9
	sum          = 0
)

// uniqueID is how ranks that belong together find each other: ncclUniqueId.
type uniqueID [128]byte

// configuration is ncclConfig_t as of version 2.21; later versions take it and fill
// up what came after.
type configuration struct {
	size                                    uint64
	magic, version                          uint32
	blocking, clusterSize, minCTAs, maxCTAs int32
	netName                                 uintptr
	splitShare                              int32
	_                                       int32
}

// nonBlocking is the configuration of a communicator whose calls return at once.
func nonBlocking() *configuration {
	const undefined = -1 << 31
	c := &configuration{magic: 0xcafebeef, version: 22100, clusterSize: undefined, minCTAs: undefined, maxCTAs: undefined, splitShare: undefined}
	c.size = uint64(unsafe.Sizeof(*c))
	return c
}
