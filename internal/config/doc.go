// Package config parses what users write, once, into types that cannot be wrong.
//
// Its errors name the text and the fix; the caller adds the object and the
// field. CEL in the CRDs refuses the same things earlier; this is for objects
// stored before a rule existed and for annotations, which no schema checks.
package config
