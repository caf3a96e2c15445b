package cuda

import (
	"fmt"
	"unsafe"
)

// driver is NVIDIA's driver interface, libcuda.
type driver struct {
	library
	init, count, get, name, attribute, totalMem             uintptr
	retain, release, setCurrent                             uintptr
	memAlloc, memFree, memInfo, memset, hostAlloc, hostFree uintptr
	toDevice, toHost                                        uintptr
	streamCreate, streamDestroy, streamSync                 uintptr
	eventCreate, eventDestroy, eventRecord, eventSync       uintptr
	moduleLoad, moduleUnload, getFunction                   uintptr
	setFunction, launch, encodeTiled                        uintptr
	captureBegin, captureEnd                                uintptr
	graphMake, graphLaunch, graphDestroy, graphExecDestroy  uintptr
	errorName, errorString                                  uintptr
}

func openDriver() (*driver, error) {
	lib, err := openLibrary("install NVIDIA's driver, version 525 or later", "libcuda.so.1")
	if err != nil {
		return nil, err
	}
	d := &driver{library: lib}
	return d, lib.bind(map[string]*uintptr{
		"cuInit": &d.init, "cuDeviceGetCount": &d.count, "cuDeviceGet": &d.get,
		"cuDeviceGetName": &d.name, "cuDeviceGetAttribute": &d.attribute, "cuDeviceTotalMem_v2": &d.totalMem,
		"cuDevicePrimaryCtxRetain": &d.retain, "cuDevicePrimaryCtxRelease_v2": &d.release, "cuCtxSetCurrent": &d.setCurrent,
		"cuMemAlloc_v2": &d.memAlloc, "cuMemFree_v2": &d.memFree, "cuMemGetInfo_v2": &d.memInfo, "cuMemsetD8Async": &d.memset,
		"cuMemHostAlloc": &d.hostAlloc, "cuMemFreeHost": &d.hostFree,
		"cuMemcpyHtoDAsync_v2": &d.toDevice, "cuMemcpyDtoHAsync_v2": &d.toHost,
		"cuStreamCreate": &d.streamCreate, "cuStreamDestroy_v2": &d.streamDestroy, "cuStreamSynchronize": &d.streamSync,
		"cuEventCreate": &d.eventCreate, "cuEventDestroy_v2": &d.eventDestroy, "cuEventRecord": &d.eventRecord,
		"cuEventSynchronize": &d.eventSync,
		"cuModuleLoadData":   &d.moduleLoad, "cuModuleUnload": &d.moduleUnload, "cuModuleGetFunction": &d.getFunction,
		"cuFuncSetAttribute": &d.setFunction, "cuLaunchKernel": &d.launch, "cuTensorMapEncodeTiled": &d.encodeTiled,
		"cuStreamBeginCapture_v2": &d.captureBegin, "cuStreamEndCapture": &d.captureEnd,
		"cuGraphInstantiateWithFlags": &d.graphMake, "cuGraphLaunch": &d.graphLaunch,
		"cuGraphDestroy": &d.graphDestroy, "cuGraphExecDestroy": &d.graphExecDestroy,
		"cuGetErrorName": &d.errorName, "cuGetErrorString": &d.errorString,
	})
}

// statusOutOfMemory is CUDA_ERROR_OUT_OF_MEMORY.
const statusOutOfMemory = 2

// check turns a status into an error.
func (d *driver) check(what string, status int32) error {
	switch status {
	case 0:
		return nil
	case statusOutOfMemory:
		return fmt.Errorf("cuda: %s: %w", what, ErrOutOfMemory)
	}
	return fmt.Errorf("cuda: %s: %s (%s): %w", what, d.text(d.errorString, status), d.text(d.errorName, status), ErrDevice)
}

// text asks the driver for the name or the description of a status.
func (d *driver) text(fn uintptr, status int32) string {
	var s *byte
	if syscall(fn, uintptr(status), uintptr(unsafe.Pointer(&s))) != 0 || s == nil {
		return fmt.Sprintf("status %d", status)
	}
	return cString(s)
}

// cString copies a string of C.
func cString(s *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(s, n))
}

// device is a GPU as the driver describes it.
type device struct {
	ordinal    int32
	name       string
	major      int32 // compute capability
	minor      int32
	processors int32
	memory     uint64
}

// Device attributes of the driver.
const (
	attributeProcessors = 16
	attributeMajor      = 75
	attributeMinor      = 76
)

// oldest is the least compute capability: the kernels use instructions of Ampere.
const oldest = 8

func (d *driver) device(ordinal int) (dev device, err error) {
	if status := syscall(d.init, 0); status != 0 {
		return dev, fmt.Errorf("cuda: the driver does not start: %s: check nvidia-smi: %w", d.text(d.errorString, status), ErrUnavailable)
	}
	var count int32
	if status := syscall(d.count, uintptr(unsafe.Pointer(&count))); status != 0 || ordinal >= int(count) {
		return dev, fmt.Errorf("cuda: there are %d devices, no device %d: check CUDA_VISIBLE_DEVICES and nvidia-smi: %w", count, ordinal, ErrUnavailable)
	}
	name := make([]byte, 256)
	status := syscall(d.get, uintptr(unsafe.Pointer(&dev.ordinal)), uintptr(ordinal))
	status |= syscall(d.name, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), uintptr(dev.ordinal))
	status |= syscall(d.totalMem, uintptr(unsafe.Pointer(&dev.memory)), uintptr(dev.ordinal))
	for attribute, at := range map[uintptr]*int32{attributeProcessors: &dev.processors, attributeMajor: &dev.major, attributeMinor: &dev.minor} {
		status |= syscall(d.attribute, uintptr(unsafe.Pointer(at)), attribute, uintptr(dev.ordinal))
	}
	if status != 0 {
		return dev, fmt.Errorf("cuda: device %d cannot be examined: check nvidia-smi: %w", ordinal, ErrUnavailable)
	}
	dev.name = cString(&name[0])
	if dev.major < oldest {
		return dev, fmt.Errorf("cuda: %s has compute capability %d.%d, want %d.0 (A100) or later: %w", dev.name, dev.major, dev.minor, oldest, ErrUnavailable)
	}
	return dev, nil
}

// arch is the target of the compiler. From Hopper on the instructions that only
// this generation has are asked for too.
func (dev device) arch() string {
	a := fmt.Sprintf("sm_%d%d", dev.major, dev.minor)
	if dev.major >= 9 {
		a += "a"
	}
	return a
}
