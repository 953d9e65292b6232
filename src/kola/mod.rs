//! Boot tests in kola's external format: discovery, selection, Ignition, running, reporting. It does
//! not know how an image was built.
