package simd

// microkernel is one call of a level's inner kernel: C[rows, cols] (+)= A[rows, kc] B[kc, cols]. Element (i, k)
// of A is a[i*ars + k*acs]; rows of b and c are ldb and ldc apart. kc, rows and cols are at least 1.
type microkernel struct {
	kc       int
	a        []float32
	ars, acs int
	b        []float32
	ldb      int
	whole    bool // rows of b have memory up to a multiple of 16
	c        []float32
	ldc      int

	rows, cols int
	add        bool
	ahead      [2]ahead // what is prefetched meanwhile
}

// runGo does four columns at a time with one row of A in flight: the compiler keeps that in registers.
func (m *microkernel) runGo() {
	for i := range m.rows {
		for j := 0; j < m.cols; j += 4 {
			m.dotGo(i, j, min(4, m.cols-j))
		}
	}
}

func (m *microkernel) dotGo(i, j, n int) {
	var sum [4]float32
	if n == 4 {
		sum = m.quadGo(i, j)
	} else {
		for k := range m.kc {
			x := m.a[i*m.ars+k*m.acs]
			for jj := range n {
				sum[jj] += x * m.b[k*m.ldb+j+jj]
			}
		}
	}
	c := m.c[i*m.ldc+j:][:n]
	for jj := range c {
		if m.add {
			c[jj] += sum[jj]
		} else {
			c[jj] = sum[jj]
		}
	}
}

func (m *microkernel) quadGo(i, j int) [4]float32 {
	var s0, s1, s2, s3 float32
	ia, ib := i*m.ars, j
	for range m.kc {
		x, b := m.a[ia], m.b[ib:ib+4]
		s0 += x * b[0]
		s1 += x * b[1]
		s2 += x * b[2]
		s3 += x * b[3]
		ia += m.acs
		ib += m.ldb
	}
	return [4]float32{s0, s1, s2, s3}
}

// dotsGo is out[4*i + j] = x_i . w_j for rows rows of x and n of w.
func dotsGo(k int, x []float32, ldx, rows int, w []float32, ldw, n int, out *[16]float32) {
	for j := range n {
		wj := w[j*ldw : j*ldw+k]
		for i := range rows {
			xi := x[i*ldx:][:len(wj)]
			var even, odd float32
			for c := 0; c+1 < len(wj); c += 2 {
				even += xi[c] * wj[c]
				odd += xi[c+1] * wj[c+1]
			}
			if k%2 == 1 {
				even += xi[k-1] * wj[k-1]
			}
			out[4*i+j] = even + odd
		}
	}
}
