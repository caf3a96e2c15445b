package cuda

import (
	"embed"
	"fmt"
	"strings"
	"unsafe"

	"jambalaya/internal/engine"
)

//go:embed kernels
var sources embed.FS

// source is the text of a file of kernels, behind what all files share and the
// definitions of one use. These come late, as their names are short.
func source(file string, defines []define) string {
	read := func(name string) string {
		text, err := sources.ReadFile("kernels/" + name)
		if err != nil {
			panic(fmt.Sprintf("cuda: no file of kernels %s", name))
		}
		return string(text)
	}
	text := read("common.cuh")
	for _, d := range defines {
		text += "#define " + d.name + " " + d.value + "\n"
	}
	if strings.HasSuffix(file, "_hopper") {
		text += read("hopper.cuh")
	}
	if strings.HasPrefix(file, "scan") {
		text += read("scan.cuh")
	}
	return text + "#line 1 \"" + file + ".cu\"\n" + read(file+".cu")
}

// module is a file of kernels, compiled for the types and constants of one use.
type module struct {
	file       string
	handle     uintptr // 0 on a dry backend
	functions  map[string]*function
	signatures map[string][]string
}

// function is a kernel on the device.
type function struct {
	name       string
	handle     uintptr
	parameters []string
	shared     int // bytes of dynamic shared memory that it may use
}

// define sets a macro of a file of kernels.
type define struct{ name, value string }

// typed says how a tensor is stored; one that is not there is declared float.
func typed(name string, t *engine.Tensor) define {
	switch {
	case t == nil || t.DType == engine.Float32:
		return define{name, "float"}
	case t.DType == engine.BFloat16:
		return define{name, "bf16"}
	}
	panic(fmt.Sprintf("cuda: %s is stored as %v", name, t))
}

// constant fixes a number when the kernels are compiled.
func constant(name string, n int) define { return define{name, fmt.Sprint(n)} }

// module loads a file of kernels, compiled for one use.
func (b *Backend) module(file string, defines []define) (*module, error) {
	id := file + fmt.Sprint(defines)
	if m, ok := b.modules[id]; ok {
		return m, nil
	}
	text := source(file, defines)
	m := &module{file: file, functions: map[string]*function{}, signatures: signatures(text)}
	if !b.dry {
		build := b.build(id, text)
		<-build.done
		if build.err != nil {
			return nil, build.err
		}
		defer b.enter()()
		status := syscall(b.driver.moduleLoad, uintptr(unsafe.Pointer(&m.handle)), uintptr(unsafe.Pointer(&build.code[0])))
		if err := b.driver.check("load "+id, status); err != nil {
			return nil, err
		}
	}
	b.modules[id] = m
	return m, nil
}

// build is a compilation that has been started.
type build struct {
	done chan struct{}
	code []byte
	err  error
}

// build starts to compile a file of kernels, unless that has been done before or
// the disk has the result.
func (b *Backend) build(id, text string) *build {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w, ok := b.builds[id]; ok {
		return w
	}
	w := &build{done: make(chan struct{})}
	b.builds[id] = w
	go func() {
		defer close(w.done)
		k := key(append(b.compiler.options(), b.compiler.version(), text)...)
		code, ok := b.cache.load(k)
		if !ok {
			b.compiling <- struct{}{}
			code, _, w.err = b.compiler.build(id, text)
			<-b.compiling
			if w.err == nil {
				b.cache.store(k, code)
			}
		}
		w.code = code
	}()
	return w
}

// function finds a kernel of a module.
func (b *Backend) function(m *module, name string) (*function, error) {
	if f, ok := m.functions[name]; ok {
		return f, nil
	}
	parameters, ok := m.signatures[name]
	if !ok {
		panic(fmt.Sprintf("cuda: no kernel %s in %s.cu", name, m.file))
	}
	f := &function{name: name, parameters: parameters}
	if !b.dry {
		defer b.enter()()
		text := append([]byte(name), 0)
		err := b.driver.check("find "+name, syscall(b.driver.getFunction, uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&text[0]))))
		if err != nil {
			return nil, err
		}
	}
	m.functions[name] = f
	return f, nil
}

// signatures reads the parameters of all kernels of a source: those that start
// a line with extern "C" __global__.
func signatures(text string) map[string][]string {
	all := map[string][]string{}
	const mark = "extern \"C\" __global__ void"
	for _, part := range strings.Split(text, mark)[1:] {
		head, rest, _ := strings.Cut(part, "{")
		for strings.Contains(head, "__launch_bounds__(") { // an attribute before the name
			_, head, _ = strings.Cut(head, ")")
		}
		name, list, ok := strings.Cut(head, "(")
		if !ok || rest == "" {
			continue
		}
		list = strings.TrimSuffix(strings.TrimSpace(list), ")")
		all[strings.TrimSpace(name)] = strings.Split(list, ",")
	}
	return all
}
