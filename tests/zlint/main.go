// Prints what zlint has against certificates: `zlint FILE...` lints every certificate in PEM files with all lints, and
// prints `FILE LEVEL LINT SOURCE` for each that warns or fails. What of it matters is for the caller to say: most lints
// are about the public web.
package main

import (
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: zlint FILE...")
		os.Exit(2)
	}
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(2)
		}
	}
}

func check(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found := false
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found = true
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		results := zlint.LintCertificate(certificate).Results
		for _, name := range slices.Sorted(maps.Keys(results)) {
			if result := results[name]; result.Status >= lint.Warn {
				fmt.Println(path, result.Status, name, result.LintMetadata.Source)
			}
		}
	}
	if !found {
		// Nothing to say against it would read as praise.
		return fmt.Errorf("there is no certificate in it")
	}
	return nil
}
