// Verifies what an appliance hands out, with Go's own sumdb/note and sumdb/tlog and nothing of ours.
//
//	verify proof FILE.tlog-proof HEADER LOG_VKEY [WITNESS_VKEY]
//	verify consistency OLD_NOTE NEW_NOTE HASHES LOG_VKEY
//
// HASHES holds one hash in base64 a line. Exit code 0 means that everything held.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func read(path string) string {
	data, err := os.ReadFile(path)
	must(err)
	return string(data)
}

func log(vkey string) note.Verifier {
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	must(err)
	return verifier
}

// cosigner is a witness's key, C2SP tlog-cosignature with Ed25519.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, msg)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

func witness(vkey string) note.Verifier {
	parts := strings.SplitN(strings.TrimSpace(vkey), "+", 3)
	if len(parts) != 3 {
		must(fmt.Errorf("malformed vkey"))
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	must(err)
	hash := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if fmt.Sprintf("%x", hash[:4]) != parts[1] || key[0] != 4 || len(key) != 33 {
		must(fmt.Errorf("malformed vkey"))
	}
	return cosigner{parts[0], binary.BigEndian.Uint32(hash[:]), key[1:]}
}

// tree opens a checkpoint that every one of these keys must have signed.
func tree(msg string, keys ...note.Verifier) tlog.Tree {
	opened, err := note.Open([]byte(msg), note.VerifierList(keys...))
	must(err)
	if len(opened.Sigs) != len(keys) {
		must(fmt.Errorf("%d of %d signatures", len(opened.Sigs), len(keys)))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != keys[0].Name() {
		must(fmt.Errorf("malformed checkpoint"))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	return tlog.Tree{N: size, Hash: hash(lines[2])}
}

func hash(text string) tlog.Hash {
	hash, err := tlog.ParseHash(text)
	must(err)
	return hash
}

func hashes(lines []string) (found []tlog.Hash) {
	for _, line := range lines {
		found = append(found, hash(line))
	}
	return found
}

func main() {
	args := os.Args[1:]
	switch {
	case len(args) >= 4 && args[0] == "proof":
		head, msg, ok := strings.Cut(read(args[1]), "\n\n")
		lines := strings.Split(head, "\n")
		if !ok || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
			must(fmt.Errorf("malformed proof"))
		}
		index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
		must(err)
		keys := []note.Verifier{log(args[3])}
		for _, vkey := range args[4:] {
			keys = append(keys, witness(vkey))
		}
		head0 := tree(msg, keys...)
		leaf := tlog.RecordHash([]byte(read(args[2])))
		must(tlog.CheckRecord(hashes(lines[2:]), head0.N, head0.Hash, index, leaf))
		fmt.Printf("entry %d is in the tree of %d\n", index, head0.N)
	case len(args) == 5 && args[0] == "consistency":
		key := log(args[4])
		from, to := tree(read(args[1]), key), tree(read(args[2]), key)
		must(tlog.CheckTree(hashes(strings.Fields(read(args[3]))), to.N, to.Hash, from.N, from.Hash))
		fmt.Printf("the tree of %d is the beginning of the tree of %d\n", from.N, to.N)
	default:
		must(fmt.Errorf("usage: see the head of verify.go"))
	}
}
