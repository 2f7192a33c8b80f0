/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that route.c names. Each answers its call exactly once, now or later. */
#ifndef SERVICE_API_API_H
#define SERVICE_API_API_H

struct call;

/* submit.c */
void api_submit (struct call *c);
void api_submit_v2 (struct call *c);
/* tasks.c */
void api_task_get (struct call *c);
void api_task_get_v3 (struct call *c);
void api_task_trace (struct call *c);
void api_task_output (struct call *c);
void api_task_file (struct call *c);
void api_task_cancel (struct call *c);
void api_task_cancel_v3 (struct call *c);
void api_batch_status (struct call *c);
void api_batch_status_v3 (struct call *c);
/* listing.c */
void api_task_list (struct call *c);
/* usage.c */
void api_usage (struct call *c);
/* groups.c */
void api_group_create (struct call *c);
void api_group_get (struct call *c);
void api_amqp_url (struct call *c);
/* events.c */
void api_group_events (struct call *c);
void api_group_results (struct call *c);
/* functions.c */
void api_function_register (struct call *c);
void api_function_list (struct call *c);
void api_function_get (struct call *c);
void api_function_delete (struct call *c);
/* function_update.c */
void api_function_update (struct call *c);
/* containers.c */
void api_container_register (struct call *c);
void api_container_get (struct call *c);
void api_container_build_status (struct call *c);
/* absent.c */
void api_absent_build (struct call *c);
void api_absent_endpoint_console (struct call *c);
void api_absent_admin_verified (struct call *c);
/* endpoints.c, presence.c */
void api_endpoint_register (struct call *c);
void api_endpoint_register_v2 (struct call *c);
void api_endpoint_update (struct call *c);
void api_endpoint_get (struct call *c);
void api_endpoint_delete (struct call *c);
void api_endpoint_lock (struct call *c);
void api_endpoint_lock_v2 (struct call *c);
void api_endpoint_list (struct call *c);
void api_endpoint_list_v2 (struct call *c);
void api_endpoint_status (struct call *c);
void api_endpoint_forwarder (struct call *c);
void api_allowed_get (struct call *c);
void api_allowed_add (struct call *c);
void api_allowed_remove (struct call *c);
/* tokens.c */
void api_oauth_token (struct call *c);
void api_oauth_revoke (struct call *c);
void api_whoami (struct call *c);
void api_authenticate (struct call *c);
/* meta.c */
void api_version (struct call *c);
void api_openapi (struct call *c);
void api_stats (struct call *c);
void api_metrics (struct call *c);
void api_healthz (struct call *c);
void api_readyz (struct call *c);
/* tickets.c */
void api_ticket_make (struct call *c);
void api_ticket_take (struct call *c);
/* console.c */
void api_root (struct call *c);
void api_console (struct call *c);
void api_console_file (struct call *c);

#endif
