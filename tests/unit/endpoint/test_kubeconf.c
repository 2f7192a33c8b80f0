/* SPDX-License-Identifier: Apache-2.0 */
/* Kubeconfigs: what is taken, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "endpoint/providers/kubeconf.h"

/* "-----BEGIN X-----\n" in base64 */
#define PEM64 "LS0tLS1CRUdJTiBYLS0tLS0K"
#define HEAD "apiVersion: v1\nkind: Config\n"
#define CLUSTER "clusters: [{name: c, cluster: {server: \"https://k.example:6443/\", certificate-authority-data: " PEM64 "}}]\n"
#define CONTEXT "contexts: [{name: x, context: {cluster: c, user: u, namespace: weft}}]\ncurrent-context: x\n"
#define USER(u) "users: [{name: u, user: {" u "}}]\n"

static int parse (const char *text, const char *context, struct kubeconf *c, struct err *err)
{
	return kubeconf_parse ("file", "/nowhere", text, strlen (text), context, c, err);
}

static void test_what_is_taken (void **state)
{
	struct kubeconf c;
	struct err err;
	char *token;

	(void) state;
	assert_int_equal (parse (HEAD CLUSTER CONTEXT USER ("token: t0ken"), NULL, &c, &err), 0);
	assert_string_equal (c.server, "https://k.example:6443");
	assert_string_equal (c.ca_pem, "-----BEGIN X-----\n");
	assert_string_equal (c.namespace_, "weft");
	assert_string_equal (c.source, "file, context x");
	token = kubeconf_token (&c, &err);
	assert_string_equal (token, "t0ken");
	free (token);
	kubeconf_fini (&c);
	assert_int_equal (parse (HEAD CLUSTER CONTEXT USER ("client-certificate-data: " PEM64 ", client-key-data: " PEM64), "x", &c, &err), 0);
	assert_non_null (c.cert_pem);
	assert_null (kubeconf_token (&c, &err));
	assert_int_equal (err.code, ERR_NONE);
	kubeconf_fini (&c);
	/* JSON is YAML too; an anchor is fine */
	assert_int_equal (parse ("{\"clusters\": [{\"name\": \"c\", \"cluster\": &a {\"server\": \"https://a\"}}, {\"name\": \"d\", \"cluster\": *a}],"
				 "\"users\": [{\"name\": \"u\", \"user\": {\"token\": \"t\"}}],"
				 "\"contexts\": [{\"name\": \"x\", \"context\": {\"cluster\": \"d\", \"user\": \"u\"}}]}", "x", &c, &err), 0);
	assert_null (c.namespace_);
	kubeconf_fini (&c);
}

static void test_what_is_refused (void **state)
{
	static const struct { const char *text, *words; } bad[] = {
		{ "", "there is nothing in it" },
		{ "- a\n", "there is nothing in it" },
		{ "a: [\n", "file:2" },
		{ "a: 1\na: 2\n", "a key twice" },
		{ HEAD CLUSTER USER ("token: t"), "no current-context" },
		{ HEAD CLUSTER CONTEXT, "there is no user 'u'" },
		{ HEAD CONTEXT USER ("token: t"), "there is no cluster 'c'" },
		{ HEAD CLUSTER CONTEXT USER ("exec: {command: aws}"), "from a program (exec or auth-provider)" },
		{ HEAD CLUSTER CONTEXT USER ("auth-provider: {name: gcp}"), "from a program" },
		{ HEAD CLUSTER CONTEXT USER ("username: a, password: b"), "has a password" },
		{ HEAD CLUSTER CONTEXT USER ("as: root, token: t"), "acts as another" },
		{ HEAD CLUSTER CONTEXT USER (""), "neither token nor client certificate" },
		{ HEAD CLUSTER CONTEXT USER ("client-certificate-data: " PEM64), "without its key" },
		{ HEAD CLUSTER CONTEXT USER ("client-certificate-data: \"%%\", client-key-data: " PEM64), "not base64 of a PEM text" },
		{ HEAD CLUSTER CONTEXT USER ("client-certificate-data: Zm9v, client-key-data: " PEM64), "client-certificate-data is not PEM" },
		{ HEAD CLUSTER CONTEXT USER ("client-certificate: no, client-key: no"), "/nowhere/no" },
		{ HEAD CLUSTER CONTEXT USER ("token: \"a b\""), "blanks" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"http://a\"}}]\n", "must be an https:// address" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"https://\"}}]\n", "must be an https:// address" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"https:///a\"}}]\n", "must be an https:// address" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"https://a\", insecure-skip-tls-verify: true}}]\n", "is refused" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"https://a\", proxy-url: \"http://p\"}}]\n", "HTTPS_PROXY" },
		{ HEAD CONTEXT USER ("token: t") "clusters: [{name: c, cluster: {server: \"https://a\", tls-server-name: b}}]\n", "tls-server-name" },
		{ "a: &a [*a]\n", "nested too deeply" },
	};
	struct kubeconf c;
	struct err err;

	(void) state;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		assert_int_equal (parse (bad[i].text, NULL, &c, &err), -1);
		if (!strstr (err.text, bad[i].words))
			fail_msg ("%s\nsays: %s\nnot: %s", bad[i].text, err.text, bad[i].words);
		assert_null (c.server);
	}
	assert_int_equal (parse (HEAD CLUSTER CONTEXT USER ("token: t"), "other", &c, &err), -1);
	assert_non_null (strstr (err.text, "no context 'other'"));
}

static void put (const char *dir, const char *name, const char *text, mode_t mode)
{
	char path[200];
	int fd;

	snprintf (path, sizeof (path), "%s/%s", dir, name);
	fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true (fd >= 0 && write (fd, text, strlen (text)) == (ssize_t) strlen (text) && fchmod (fd, mode) == 0);
	close (fd);
}

static void test_files (void **state)
{
	char dir[] = "/tmp/weft-kubeconf-XXXXXX", path[200];
	struct kubeconf c;
	struct err err;
	char *token;

	(void) state;
	assert_non_null (mkdtemp (dir));
	put (dir, "config", HEAD CLUSTER CONTEXT USER ("tokenFile: token"), 0644);
	snprintf (path, sizeof (path), "%s/config", dir);
	assert_int_equal (kubeconf_load (path, NULL, &c, &err), -1);
	assert_non_null (strstr (err.text, "chmod 600"));
	put (dir, "config", HEAD CLUSTER CONTEXT USER ("tokenFile: token"), 0600);
	assert_int_equal (kubeconf_load (path, NULL, &c, &err), 0);
	assert_null (kubeconf_token (&c, &err));	/* not there yet; it is read anew each time */
	assert_int_equal (err.code, ERR_IO);
	put (dir, "token", "first\n", 0600);
	token = kubeconf_token (&c, &err);
	assert_string_equal (token, "first");
	free (token);
	put (dir, "token", "second\n", 0600);
	token = kubeconf_token (&c, &err);
	assert_string_equal (token, "second");
	free (token);
	kubeconf_fini (&c);

	/* inside a pod; its files are readable for all */
	setenv ("WEFT_KUBE_POD_DIR", dir, 1);
	setenv ("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	setenv ("KUBERNETES_SERVICE_PORT", "443", 1);
	assert_int_equal (kubeconf_load (NULL, NULL, &c, &err), -1);
	assert_non_null (strstr (err.text, "automountServiceAccountToken"));
	put (dir, "ca.crt", "-----BEGIN X-----\n", 0644);
	put (dir, "namespace", "lab", 0644);
	assert_int_equal (kubeconf_load (NULL, NULL, &c, &err), 0);
	assert_string_equal (c.server, "https://[fd00::1]:443");
	assert_string_equal (c.namespace_, "lab");
	kubeconf_fini (&c);
	unsetenv ("KUBERNETES_SERVICE_HOST");
	setenv ("KUBECONFIG", "/a:/b", 1);
	assert_int_equal (kubeconf_load (NULL, NULL, &c, &err), -1);
	assert_non_null (strstr (err.text, "several files"));
	for (size_t i = 0; i < 4; i++) {
		static const char *const names[] = { "config", "token", "ca.crt", "namespace" };
		snprintf (path, sizeof (path), "%s/%s", dir, names[i]);
		unlink (path);
	}
	rmdir (dir);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_what_is_taken), cmocka_unit_test (test_what_is_refused), cmocka_unit_test (test_files),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
